#include "forward/zr_pull.h"

#include "coll/zr_seq.h"

#define BUCKET  ZR_SEC(5)
#define JUMP_US (2u * 5000000u)

static void turn_bucket(zr_hop *hop, zr_ns_t now)
{
    if (now - hop->since < BUCKET)
        return;
    hop->best_before = hop->best;
    hop->known_before = hop->known && now - hop->since < 2 * BUCKET;
    hop->known = false;
    hop->since = now;
}

uint32_t zr_hop_delay_us(zr_hop *hop, uint32_t hop_us, uint32_t srtt_us, zr_ns_t now)
{
    uint32_t difference = (uint32_t)((uint64_t)now / 1000) - hop_us;
    uint32_t best, delay;

    turn_bucket(hop, now);
    if (!hop->known || zr_seq_before(difference, hop->best))
        hop->best = difference;
    hop->known = true;
    best = hop->best;
    if (hop->known_before && zr_seq_before(hop->best_before, best))
        best = hop->best_before;
    delay = difference - best;
    if (delay > JUMP_US) { /* longer than we remember: it is the peer's clock that went back */
        hop->best = difference;
        hop->known_before = false;
        delay = 0;
    }
    return delay > UINT32_MAX - srtt_us / 2 ? UINT32_MAX : delay + srtt_us / 2;
}

size_t zr_pulls_bytes(uint32_t max)
{
    return zr_round_up(max * sizeof(zr_pull), ZR_CACHELINE);
}

void zr_pulls_init(zr_pulls *pulls, void *mem, uint32_t max)
{
    *pulls = (zr_pulls){ .all = mem, .max = max };
    zr_list_init(&pulls->free);
    for (uint32_t i = 0; i < max; i++) {
        pulls->all[i] = (zr_pull){ .slot = i };
        zr_list_init(&pulls->all[i].in_stream);
        zr_list_append(&pulls->free, &pulls->all[i].in_stream);
    }
}

zr_pull *zr_pulls_take(zr_pulls *pulls, struct zr_stream *stream)
{
    zr_pull *pull;

    if (zr_list_empty(&pulls->free))
        return NULL;
    pull = ZR_LIST_FIRST(&pulls->free, zr_pull, in_stream);
    zr_list_remove(&pull->in_stream);
    pull->stream = stream;
    pull->hop = (zr_hop){ .known = false };
    return pull;
}

void zr_pulls_give(zr_pulls *pulls, zr_pull *pull)
{
    zr_list_remove(&pull->in_stream);
    pull->stream = NULL;
    zr_list_append(&pulls->free, &pull->in_stream);
}
