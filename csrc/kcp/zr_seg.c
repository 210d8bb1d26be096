#include "kcp/zr_seg.h"

#include "base/zr_bytes.h"
#include "base/zr_err.h"

int zr_seg_next(zr_seg *seg, const uint8_t *data, size_t size, size_t *pos)
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

void zr_seg_put(uint8_t *to, const zr_seg *seg)
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
