/*
 * zr_rtcp.h - the RTCP that ends at a relay (RFC 3550 6, RFC 4585, RFC 5104). Bounds-checked.
 *
 *   zr_rtcp_check(data, len)                the whole datagram, once
 *   while (zr_rtcp_next(&rtcp, data, len, &pos) == ZR_OK)
 *       zr_rtcp_nack(&rtcp, ...), zr_rtcp_wants_keyframe(&rtcp, ssrc), ...
 *
 * Reduced-size RTCP (RFC 5506) is taken: a lone NACK or PLI needs no report in front of it.
 */
#ifndef ZR_RTCP_H
#define ZR_RTCP_H

#include "base/zr_base.h"

enum zr_rtcp_type {
    ZR_RTCP_SR = 200,
    ZR_RTCP_RR = 201,
    ZR_RTCP_SDES = 202,
    ZR_RTCP_BYE = 203,
    ZR_RTCP_APP = 204,
    ZR_RTCP_RTPFB = 205,
    ZR_RTCP_PSFB = 206
};

/* One packet of a compound. */
typedef struct zr_rtcp {
    uint8_t type, count;  /* count: report count or feedback message type */
    uint32_t sender_ssrc; /* of SDES and BYE the first one; 0 when they name none */
    uint32_t media_ssrc;  /* feedback packets; else 0 */
    const uint8_t *body;  /* behind sender_ssrc (reports) or media_ssrc (feedback); padding excluded */
    uint16_t body_len;
} zr_rtcp;

/* Whole compound well formed? ZR_OK or ZR_E_malformed. */
int zr_rtcp_check(const uint8_t *data, size_t len);
/* Next packet of a checked compound; ZR_E_again at the end. */
int zr_rtcp_next(zr_rtcp *rtcp, const uint8_t *data, size_t len, size_t *pos);
/* Generic NACK (RTPFB, FMT 1): expands all PID/BLP pairs into `seqs`; returns how many (<= max). */
int zr_rtcp_nack(const zr_rtcp *rtcp, uint16_t *seqs, int max);
/* PLI (PSFB 1), or FIR (PSFB 4) naming `ssrc`? FIR's SSRCs stand in its FCI. */
bool zr_rtcp_wants_keyframe(const zr_rtcp *rtcp, uint32_t ssrc);
/* Writes a compound of an RR without report blocks and a PLI for `media_ssrc`; returns its length (20). */
size_t zr_rtcp_put_pli(uint8_t to[32], uint32_t sender_ssrc, uint32_t media_ssrc);

#endif
