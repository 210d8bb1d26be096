/*
 * zr_seg.h - the 24-byte KCP segment header (spec: PROTOCOL.md, "Segments"), encode and bounds-checked decode.
 */
#ifndef ZR_SEG_H
#define ZR_SEG_H

#include "base/zr_bytes.h"
#include "base/zr_err.h"

#define ZR_SEG_HEAD 24u

enum zr_seg_cmd { ZR_SEG_PUSH = 81, ZR_SEG_ACK = 82, ZR_SEG_WASK = 83, ZR_SEG_WINS = 84 };

typedef struct zr_seg {
    uint32_t conv;
    uint8_t cmd, frg;
    uint16_t wnd;
    uint32_t ts, sn, una, len;
    const uint8_t *data; /* len bytes inside the datagram */
} zr_seg;

/*
 * Reads the segment at *pos of `data[0..size)` and moves *pos behind it. Returns ZR_OK; ZR_E_again when fewer than 24
 * bytes are left (0 left: the clean end); ZR_E_oversize when `len` passes the end. Does not judge cmd, frg or conv.
 */
static inline int zr_seg_next(zr_seg *seg, const uint8_t *data, size_t size, size_t *pos)
{
    size_t left = size - *pos;

    if (left < ZR_SEG_HEAD)
        return ZR_E_again;
    const uint8_t *from = data + *pos;
    *seg = (zr_seg){
        .conv = zr_get32(from),
        .cmd = from[4],
        .frg = from[5],
        .wnd = zr_get16(from + 6),
        .ts = zr_get32(from + 8),
        .sn = zr_get32(from + 12),
        .una = zr_get32(from + 16),
        .len = zr_get32(from + 20),
        .data = from + ZR_SEG_HEAD,
    };
    if (seg->len > left - ZR_SEG_HEAD)
        return ZR_E_oversize;
    *pos += ZR_SEG_HEAD + seg->len;
    return ZR_OK;
}

/* Writes the 24 header bytes, payload excluded. */
static inline void zr_seg_put(uint8_t *to, const zr_seg *seg)
{
    zr_put32(to, seg->conv);
    to[4] = seg->cmd;
    to[5] = seg->frg;
    zr_put16(to + 6, seg->wnd);
    zr_put32(to + 8, seg->ts);
    zr_put32(to + 12, seg->sn);
    zr_put32(to + 16, seg->una);
    zr_put32(to + 20, seg->len);
}

#endif
