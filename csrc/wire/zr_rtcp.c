#include "wire/zr_rtcp.h"

#include "base/zr_bytes.h"
#include "base/zr_err.h"

#define RTCP_HEAD    4u
#define REPORT_BYTES 24u /* one report block */
#define SENDER_INFO  20u /* NTP and RTP time, packet and octet counts of an SR */

enum { FMT_NACK = 1, FMT_PLI = 1, FMT_FIR = 4 };

/* The least a packet of this type and count holds behind its four bytes. */
static size_t least_bytes(uint8_t type, uint8_t count)
{
    switch (type) {
    case ZR_RTCP_SR:
        return 4 + SENDER_INFO + REPORT_BYTES * count;
    case ZR_RTCP_RR:
        return 4 + REPORT_BYTES * count;
    case ZR_RTCP_SDES: /* a chunk: SSRC, then items ended by a zero, in words */
        return 8u * count;
    case ZR_RTCP_BYE:
        return 4u * count;
    case ZR_RTCP_APP:
    case ZR_RTCP_RTPFB:
    case ZR_RTCP_PSFB:
        return 8;
    default: /* XR and others pass unread */
        return 0;
    }
}

/* Bytes behind the four of the packet at data, padding excluded; or ZR_E_malformed. */
static int measure(const uint8_t *data, size_t len, size_t *whole)
{
    if (len < RTCP_HEAD || data[0] >> 6 != 2 || data[1] < 192 || data[1] > 223)
        return ZR_E_malformed;
    *whole = RTCP_HEAD + 4u * zr_get16be(data + 2);
    if (*whole > len)
        return ZR_E_malformed;

    size_t inner = *whole - RTCP_HEAD;
    if (data[0] & 0x20) {
        /* Padding ends the compound, in whole words (RFC 3550 6.4.1). */
        size_t padding = data[*whole - 1];
        if (*whole != len || padding == 0 || padding % 4 != 0 || padding > inner)
            return ZR_E_malformed;
        inner -= padding;
    }
    if (inner < least_bytes(data[1], data[0] & 31u))
        return ZR_E_malformed;
    return (int)inner;
}

int zr_rtcp_check(const uint8_t *data, size_t len)
{
    size_t pos = 0, whole;

    if (len == 0 || len > UINT16_MAX)
        return ZR_E_malformed;
    while (pos < len) {
        int inner = measure(data + pos, len - pos, &whole);
        if (inner < 0)
            return inner;
        pos += whole;
    }
    return ZR_OK;
}

int zr_rtcp_next(zr_rtcp *rtcp, const uint8_t *data, size_t len, size_t *pos)
{
    size_t whole;

    if (*pos >= len)
        return ZR_E_again;
    const uint8_t *at = data + *pos;
    int inner = measure(at, len - *pos, &whole);
    if (inner < 0)
        return ZR_E_again; /* not a checked compound: better to stop than to read on */
    *pos += whole;

    size_t left = (size_t)inner;
    rtcp->type = at[1];
    rtcp->count = at[0] & 31u;
    rtcp->sender_ssrc = 0;
    rtcp->media_ssrc = 0;
    rtcp->body = at + RTCP_HEAD;
    if (left >= 4) {
        rtcp->sender_ssrc = zr_get32be(rtcp->body);
        rtcp->body += 4;
        left -= 4;
    }
    if (rtcp->type == ZR_RTCP_RTPFB || rtcp->type == ZR_RTCP_PSFB) {
        rtcp->media_ssrc = zr_get32be(rtcp->body); /* least_bytes saw to it */
        rtcp->body += 4;
        left -= 4;
    }
    rtcp->body_len = (uint16_t)left;
    return ZR_OK;
}

int zr_rtcp_nack(const zr_rtcp *rtcp, uint16_t *seqs, int max)
{
    int count = 0;

    if (rtcp->type != ZR_RTCP_RTPFB || rtcp->count != FMT_NACK)
        return 0;
    for (size_t off = 0; off + 4 <= rtcp->body_len; off += 4) {
        uint16_t pid = zr_get16be(rtcp->body + off), blp = zr_get16be(rtcp->body + off + 2);
        if (count < max)
            seqs[count++] = pid;
        for (unsigned bit = 0; bit < 16; bit++)
            if (blp >> bit & 1 && count < max)
                seqs[count++] = (uint16_t)(pid + bit + 1);
    }
    return count;
}

bool zr_rtcp_wants_keyframe(const zr_rtcp *rtcp, uint32_t ssrc)
{
    if (rtcp->type != ZR_RTCP_PSFB)
        return false;
    if (rtcp->count == FMT_PLI)
        return rtcp->media_ssrc == ssrc;
    if (rtcp->count == FMT_FIR)
        for (size_t off = 0; off + 8 <= rtcp->body_len; off += 8)
            if (zr_get32be(rtcp->body + off) == ssrc)
                return true;
    return false;
}

size_t zr_rtcp_put_pli(uint8_t to[32], uint32_t sender_ssrc, uint32_t media_ssrc)
{
    to[0] = 0x80;
    to[1] = ZR_RTCP_RR;
    zr_put16be(to + 2, 1);
    zr_put32be(to + 4, sender_ssrc);

    to[8] = 0x80 | FMT_PLI;
    to[9] = ZR_RTCP_PSFB;
    zr_put16be(to + 10, 2);
    zr_put32be(to + 12, sender_ssrc);
    zr_put32be(to + 16, media_ssrc);
    return 20;
}
