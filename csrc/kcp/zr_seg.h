/*
 * zr_seg.h - the 24-byte KCP segment header (spec: PROTOCOL.md, "Segments"), encode and bounds-checked decode.
 */
#ifndef ZR_SEG_H
#define ZR_SEG_H

#include "base/zr_base.h"

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
int zr_seg_next(zr_seg *seg, const uint8_t *data, size_t size, size_t *pos);
/* Writes the 24 header bytes, payload excluded. */
void zr_seg_put(uint8_t *to, const zr_seg *seg);

#endif
