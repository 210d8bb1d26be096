#include "wire/zr_codec.h"

#include "base/zr_bytes.h"
#include "wire/zr_media.h"

#define KEY_START (ZR_MEDIA_KEY | ZR_MEDIA_FRAME_START)

/* One H.264 NAL unit, or the start of one. `slice`: what stands behind its header byte. */
static uint8_t h264_nal(uint8_t header, const uint8_t *slice, size_t len)
{
    uint8_t flags = 0;

    switch (header & 31u) {
    case 5: /* IDR slice */
        flags = ZR_MEDIA_KEY;
        /* fall through */
    case 1: /* other slice; its header opens with ue(v) first_mb_in_slice, whose zero is a single 1 bit */
    case 2: /* data partition A */
        if (len > 0 && slice[0] & 0x80)
            flags |= ZR_MEDIA_FRAME_START;
        return flags;
    case 7: /* SPS */
        return KEY_START;
    case 9: /* access unit delimiter */
        return ZR_MEDIA_FRAME_START;
    default:
        return 0;
    }
}

/* STAP-A (skip 1), STAP-B (3); MTAP16 and MTAP24 put DOND and a time offset (`stamp` bytes) before each NAL unit. */
static uint8_t h264_aggregate(const uint8_t *at, size_t len, size_t skip, size_t stamp)
{
    uint8_t flags = 0;
    size_t off = skip;

    while (len > off && len - off > 2 + stamp) {
        size_t size = zr_get16be(at + off);
        off += 2;
        if (size <= stamp || size > len - off) /* MTAP counts the stamp as part of the unit's size */
            break;
        flags |= h264_nal(at[off + stamp], at + off + stamp + 1, size - stamp - 1);
        off += size;
    }
    return flags;
}

static uint8_t h264_flags(const uint8_t *at, size_t len)
{
    uint8_t flags = 0;

    if (len == 0)
        return 0;
    switch (at[0] & 31u) {
    case 24: /* STAP-A */
        flags = h264_aggregate(at, len, 1, 0);
        break;
    case 25: /* STAP-B: a decoding order number first */
        flags = h264_aggregate(at, len, 3, 0);
        break;
    case 26: /* MTAP16 */
        flags = h264_aggregate(at, len, 3, 3);
        break;
    case 27: /* MTAP24 */
        flags = h264_aggregate(at, len, 3, 4);
        break;
    case 28: /* FU-A */
    case 29: /* FU-B */
        if (len < 2)
            return 0;
        if (at[1] & 0x80) {
            size_t head = (at[0] & 31u) == 28 ? 2 : 4;
            flags = len > head ? h264_nal(at[1], at + head, len - head) : h264_nal(at[1], at, 0);
        }
        break;
    case 0: /* reserved */
    case 30:
    case 31:
        return 0;
    default:
        flags = h264_nal(at[0], at + 1, len - 1);
    }
    /* An aggregate's nal_ref_idc is the greatest of its units', a fragment's is its unit's. Parameter sets and
     * delimiters may carry 0 themselves, yet a key frame is never discardable. */
    if ((at[0] & 0x60) == 0 && !(flags & ZR_MEDIA_KEY))
        flags |= ZR_MEDIA_DISCARDABLE;
    return flags;
}

/* `slice`: behind the two header bytes; the first bit of a slice header is first_slice_segment_in_pic_flag. */
static uint8_t h265_nal(unsigned type, const uint8_t *slice, size_t len)
{
    uint8_t start = len > 0 && slice[0] & 0x80 ? ZR_MEDIA_FRAME_START : 0;

    if (type < 16)
        return start;
    if (type <= 23) /* IRAP: BLA, IDR, CRA */
        return ZR_MEDIA_KEY | start;
    if (type == 32 || type == 33) /* VPS, SPS */
        return KEY_START;
    return type == 35 ? ZR_MEDIA_FRAME_START : 0; /* access unit delimiter */
}

static uint8_t h265_flags(const uint8_t *at, size_t len)
{
    if (len < 2)
        return 0;
    unsigned type = at[0] >> 1 & 63u;
    if (type == 48) { /* AP */
        uint8_t flags = 0;
        size_t off = 2;
        while (len - off > 2) {
            size_t size = zr_get16be(at + off);
            off += 2;
            if (size < 2 || size > len - off)
                break;
            flags |= h265_nal(at[off] >> 1 & 63u, at + off + 2, size - 2);
            off += size;
        }
        return flags;
    }
    if (type == 49) /* FU */
        return len >= 3 && at[2] & 0x80 ? h265_nal(at[2] & 63u, at + 3, len - 3) : 0;
    return h265_nal(type, at + 2, len - 2);
}

static uint8_t vp8_flags(const uint8_t *at, size_t len)
{
    if (len == 0)
        return 0;
    uint8_t flags = at[0] & 0x20 ? ZR_MEDIA_DISCARDABLE : 0;
    if ((at[0] & 0x17) != 0x10) /* S = 1 and partition 0: a frame starts here */
        return flags;
    flags |= ZR_MEDIA_FRAME_START;

    size_t off = 1;
    if (at[0] & 0x80) { /* X: the optional bytes */
        if (len < 2)
            return flags;
        uint8_t have = at[1];
        off = 2;
        if (have & 0x80) { /* I: picture id, 7 or 15 bits */
            if (len <= off)
                return flags;
            off += at[off] & 0x80 ? 2 : 1;
        }
        off += have & 0x40 ? 1 : 0; /* L: TL0PICIDX */
        off += have & 0x30 ? 1 : 0; /* T, K: TID, KEYIDX */
    }
    if (off < len && !(at[off] & 1)) /* P = 0 opens the payload of a key frame */
        flags = KEY_START;
    return flags;
}

static uint8_t vp9_flags(const uint8_t *at, size_t len)
{
    if (len == 0 || !(at[0] & 0x08)) /* B: start of a layer frame */
        return 0;
    if (at[0] & 0x20) { /* L: layer indices behind the picture id */
        size_t off = 1;
        if (at[0] & 0x80) {
            if (len < 2)
                return 0;
            off += at[1] & 0x80 ? 2 : 1;
        }
        if (off >= len || at[off] >> 1 & 7) /* an upper spatial layer: the picture started earlier */
            return 0;
    }
    return at[0] & 0x40 ? ZR_MEDIA_FRAME_START : KEY_START; /* P: predicted from earlier pictures */
}

uint8_t zr_codec_flags(enum zr_codec codec, const uint8_t *payload, size_t len)
{
    switch (codec) {
    case ZR_CODEC_h264:
        return h264_flags(payload, len);
    case ZR_CODEC_h265:
        return h265_flags(payload, len);
    case ZR_CODEC_vp8:
        return vp8_flags(payload, len);
    case ZR_CODEC_vp9:
        return vp9_flags(payload, len);
    case ZR_CODEC_av1: /* aggregation header | Z Y W W N - - - | */
        return len > 0 && payload[0] & 0x08 ? KEY_START : 0;
    default:
        return 0;
    }
}
