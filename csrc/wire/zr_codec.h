/*
 * zr_codec.h - what an RTP payload says of itself: does a key frame start here, does a frame, can it be left out?
 *
 *   codec   KEY                                                    FRAME_START                 DISCARDABLE
 *   h264    IDR or SPS, alone, in STAP or MTAP, or starting a FU   first slice, AUD, SPS       nal_ref_idc 0 throughout
 *   h265    IRAP (16..23), VPS or SPS, alone, in AP, or FU start   first slice, AUD, VPS, SPS  -
 *   vp8     first partition's start, P = 0                         S = 1, PID = 0              N = 1
 *   vp9     B = 1, P = 0, spatial layer 0                          B = 1, spatial layer 0      -
 *   av1     N = 1 (new coded video sequence)                       N = 1                       -
 *
 * Parameter sets count as KEY because ffmpeg and GStreamer send them in packets of their own before the IDR, and a
 * joiner who starts at the IDR without them decodes nothing. So several packets of one access unit carry KEY: of those
 * with one RTP timestamp, the first is the place to start. H.265 and VP9 tell only with knowledge of all layers whether
 * a picture is referenced, AV1 only in a header extension: those are never called discardable here.
 */
#ifndef ZR_CODEC_H
#define ZR_CODEC_H

#include "base/zr_base.h"

/* kinds and codecs of a track; word = what the API and SDP call it, rtpmap = the SDP name */
#define ZR_CODEC_LIST(X)                                                                                               \
    X(other, "other", "")                                                                                              \
    X(h264, "h264", "H264")                                                                                            \
    X(h265, "h265", "H265")                                                                                            \
    X(vp8, "vp8", "VP8")                                                                                               \
    X(vp9, "vp9", "VP9")                                                                                               \
    X(av1, "av1", "AV1")                                                                                               \
    X(opus, "opus", "opus")                                                                                            \
    X(aac, "aac", "MPEG4-GENERIC")                                                                                     \
    X(pcmu, "pcmu", "PCMU")                                                                                            \
    X(pcma, "pcma", "PCMA")

enum zr_codec {
#define X(id, word, rtpmap) ZR_CODEC_##id,
    ZR_CODEC_LIST(X)
#undef X
        ZR_CODEC_COUNT
};

/* Are key frames of this codec told from others? */
static inline bool zr_codec_tells_keys(enum zr_codec codec)
{
    return codec >= ZR_CODEC_h264 && codec <= ZR_CODEC_av1;
}

/* The zr_media flags of the table, for any bytes whatever; 0 where a codec has none. The marker (FRAME_END) is the
 * caller's. */
uint8_t zr_codec_flags(enum zr_codec codec, const uint8_t *payload, size_t len);

#endif
