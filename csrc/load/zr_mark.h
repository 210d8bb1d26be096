/*
 * zr_mark.h - the packets of a measurement: RTP that says when it was meant to leave, and in which no byte can change
 * unnoticed.
 *
 *    0          12      16      20       28       36
 *   | RTP head | magic | check | number | due ns | text ...                                      little-endian
 *
 * `due` is the moment the packet should have left, not the one it did: a sender that falls behind makes delays longer
 * instead of fewer (coordinated omission). The check covers the RTP head, number and due; the text is a stretch of one
 * long random string, a different one for each number, so that a packet with another's rest is found out too.
 */
#ifndef ZR_MARK_H
#define ZR_MARK_H

#include "base/zr_base.h"

#define ZR_MARK_HEAD     36u
#define ZR_MARK_SIZE_MAX 2048u
#define ZR_MARK_SHIFTS   1021u /* prime: neighbours in a frame, and frames, differ */

typedef struct zr_mark_text {
    uint8_t bytes[ZR_MARK_SIZE_MAX + ZR_MARK_SHIFTS];
} zr_mark_text;

typedef struct zr_mark {
    uint32_t ssrc;
    uint8_t payload_type;
    bool last; /* of its frame: the RTP marker */
    uint64_t number;
    zr_ns_t due;
} zr_mark;

enum zr_mark_verdict { ZR_MARK_GOOD = 0, ZR_MARK_RTCP = 1, ZR_MARK_CORRUPT = 2 };

void zr_mark_text_init(zr_mark_text *text);
/* A packet of `size` bytes, ZR_MARK_HEAD..ZR_MARK_SIZE_MAX. */
void zr_mark_write(uint8_t *to, uint32_t size, const zr_mark *mark, const zr_mark_text *text);
/* CORRUPT: anything but a packet of `size` bytes as it was written, or RTCP. *mark is set for a GOOD one. */
enum zr_mark_verdict zr_mark_read(zr_mark *mark, const uint8_t *data, size_t len, uint32_t size,
                                  const zr_mark_text *text);

#endif
