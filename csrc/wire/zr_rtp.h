/*
 * zr_rtp.h - RTP (RFC 3550 5.1). Bounds-checked, nothing is written into a packet that passes.
 *
 *   0                 1      2          4           8      12        12+4*CC          payload_off
 *   | V=2 P X CC(4)   | M PT | sequence | timestamp | SSRC | CSRC ... | [extension] ... | payload | [padding, count] |
 *
 * Includes what belongs to it: RTCP on the same port (zr_rtcp.h) and what the payloads say of themselves (zr_codec.h).
 */
#ifndef ZR_RTP_H
#define ZR_RTP_H

#include "base/zr_base.h"
#include "stat/zr_drop.h"
#include "wire/zr_codec.h"
#include "wire/zr_rtcp.h"

#define ZR_RTP_HEAD 12u

typedef struct zr_rtp {
    uint8_t payload_type;
    bool marker;
    uint16_t seq;
    uint32_t timestamp, ssrc;
    uint16_t payload_off, payload_len; /* padding excluded */
} zr_rtp;

/* ZR_OK, or ZR_E_malformed with *drop one of rtp_short, rtp_version, rtp_csrc, rtp_ext, rtp_pad. len <= 65 535: the
 * longest that UDP can bring. */
int zr_rtp_parse(zr_rtp *rtp, const uint8_t *data, size_t len, enum zr_drop_id *drop);
/* RFC 5761 4: second byte 192..223 means RTCP. */
bool zr_rtp_is_rtcp(const uint8_t *data, size_t len);

#endif
