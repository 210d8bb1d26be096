/*
 * zr_media.h - the 16-byte media header in front of every RTP packet between relays (PROTOCOL.md, "Media message").
 *
 *   0       1       2              3              4              8            12        16
 *   | flags | track | hops | class | spat. | temp.| media number | hop time us | age us  | RTP as it came
 */
#ifndef ZR_MEDIA_H
#define ZR_MEDIA_H

#include "base/zr_base.h"

#define ZR_MEDIA_HEAD      16u
#define ZR_MEDIA_HOPS_MAX  8u
#define ZR_MEDIA_CLASS_MAX 6u
#define ZR_RTP_MAX         1500u /* the longest RTP packet that travels: two segments */

enum zr_media_flag {
    ZR_MEDIA_KEY = 1, /* key frame start */
    ZR_MEDIA_FRAME_START = 2,
    ZR_MEDIA_FRAME_END = 4,
    ZR_MEDIA_DISCARDABLE = 8,
    ZR_MEDIA_AUDIO = 16,
    ZR_MEDIA_RTCP = 32,
    ZR_MEDIA_REPLAYED = 64,
    ZR_MEDIA_SWITCH = 128
};

typedef struct zr_media {
    uint8_t flags, track;
    uint8_t hops, cls; /* cls 0..6; above 6 is read as 6 */
    uint8_t spatial, temporal;
    uint32_t number;
    uint32_t hop_us; /* sender's monotonic clock at send, low 32 bits of microseconds */
    uint32_t age_us; /* spent before this hop */
} zr_media;

/* Whose deadline a packet has: RTCP counts as audio, every packet of a key frame (drop class 3) as key. */
enum zr_deadline { ZR_DEADLINE_AUDIO, ZR_DEADLINE_KEY, ZR_DEADLINE_DELTA, ZR_DEADLINES };

static inline enum zr_deadline zr_media_deadline(const zr_media *media)
{
    if ((media->flags & (ZR_MEDIA_AUDIO | ZR_MEDIA_RTCP)) != 0)
        return ZR_DEADLINE_AUDIO;
    return media->cls <= 3 ? ZR_DEADLINE_KEY : ZR_DEADLINE_DELTA;
}

/* ZR_OK, or ZR_E_malformed when len < 16. */
int zr_media_parse(zr_media *media, const uint8_t *data, size_t len);
void zr_media_put(uint8_t to[ZR_MEDIA_HEAD], const zr_media *media);

#endif
