#include "load/zr_mark.h"

#include "base/zr_bytes.h"

#define MAGIC       0x64616F6Cu /* "load" */
#define NS_PER_TICK 11111       /* of the 90 kHz RTP clock */
#define RTP_VERSION 0x80u
#define RTP_MARKER  0x80u
#define TEXT_SEED   0x9E3779B97F4A7C15u
#define RTCP_FIRST  192u
#define RTCP_LAST   223u
#define RTP_HEAD    12u

static uint64_t mix(uint64_t h, uint64_t word)
{
    h = (h ^ word) * 0xD6E8FEB86659FD93u;
    return h ^ h >> 32;
}

/* Of the RTP head, number and due as they lie in the packet. */
static uint32_t check_of(const uint8_t *data)
{
    uint64_t h = mix(MAGIC, zr_get64(data));

    h = mix(h, zr_get32(data + 8));
    h = mix(h, zr_get64(data + 20));
    return (uint32_t)mix(h, zr_get64(data + 28));
}

void zr_mark_text_init(zr_mark_text *text)
{
    uint64_t h = TEXT_SEED;

    for (size_t i = 0; i < sizeof text->bytes; i++) {
        h = mix(h, i);
        text->bytes[i] = (uint8_t)(h >> 16);
    }
}

void zr_mark_write(uint8_t *to, uint32_t size, const zr_mark *mark, const zr_mark_text *text)
{
    to[0] = RTP_VERSION;
    to[1] = (uint8_t)(mark->payload_type | (mark->last ? RTP_MARKER : 0u));
    zr_put16be(to + 2, (uint16_t)mark->number);
    zr_put32be(to + 4, (uint32_t)(mark->due / NS_PER_TICK));
    zr_put32be(to + 8, mark->ssrc);
    zr_put32(to + RTP_HEAD, MAGIC);
    zr_put64(to + 20, mark->number);
    zr_put64(to + 28, (uint64_t)mark->due);
    zr_put32(to + 16, check_of(to));
    memcpy(to + ZR_MARK_HEAD, text->bytes + mark->number % ZR_MARK_SHIFTS, size - ZR_MARK_HEAD);
}

enum zr_mark_verdict zr_mark_read(zr_mark *mark, const uint8_t *data, size_t len, uint32_t size,
                                  const zr_mark_text *text)
{
    if (len >= 8 && data[1] >= RTCP_FIRST && data[1] <= RTCP_LAST)
        return ZR_MARK_RTCP;
    if (len != size || zr_get32(data + RTP_HEAD) != MAGIC || zr_get32(data + 16) != check_of(data))
        return ZR_MARK_CORRUPT;
    *mark = (zr_mark){
        .ssrc = zr_get32be(data + 8),
        .payload_type = data[1] & 0x7F,
        .last = (data[1] & RTP_MARKER) != 0,
        .number = zr_get64(data + 20),
        .due = (zr_ns_t)zr_get64(data + 28),
    };
    if (memcmp(data + ZR_MARK_HEAD, text->bytes + mark->number % ZR_MARK_SHIFTS, size - ZR_MARK_HEAD) != 0)
        return ZR_MARK_CORRUPT;
    return ZR_MARK_GOOD;
}
