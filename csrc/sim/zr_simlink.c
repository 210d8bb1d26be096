#include "sim/zr_simlink.h"

#include "base/zr_err.h"
#include "sim/zr_rng.h"

#include <string.h>

#define QUEUE_BYTES_DEFAULT 65536u
#define DELAY_MAX           ZR_SEC(3600)
#define NS_BITS             8000000000u /* nanosecond-bits in a byte per second */

typedef struct slot {
    uint64_t tag;
    uint32_t len, next_free;
    uint8_t data[ZR_SIMLINK_LEN_MAX];
} slot;

/* The heap moves these 24 bytes, never the packets. */
typedef struct entry {
    zr_ns_t due;
    uint64_t order; /* of putting in: breaks ties, so that equal times keep their order */
    uint32_t slot, pad;
} entry;

struct zr_simlink {
    zr_simlink_conf conf;
    zr_simlink_counts counts;
    zr_rng rng;
    entry *heap; /* binary, earliest first */
    slot *slots;
    uint32_t in_flight, free_head;
    uint64_t order;
    bool bad; /* Gilbert's state */
    double to_bad, to_good;
    zr_ns_t busy_until; /* the bottleneck's */
    zr_ns_t queue_ns;   /* queue_bytes as time at rate_bps */
    uint64_t rate_rest; /* what the division left, so that the long-run rate is exact */
    zr_ns_t last_due;   /* latest due so far: the order constraint */
};

static bool is_fraction(double p)
{
    return p >= 0 && p <= 1; /* false for NaN */
}

static bool in_range(const zr_simlink_conf *conf)
{
    return conf->delay >= 0 && conf->delay <= DELAY_MAX && conf->jitter >= 0 && conf->jitter <= DELAY_MAX &&
           is_fraction(conf->loss) && is_fraction(conf->dup) && is_fraction(conf->reorder) && conf->burst >= 0 &&
           conf->burst <= 1e9 && conf->packets_max >= 1 && conf->packets_max <= ZR_SIMLINK_PACKETS_MAX;
}

size_t zr_simlink_bytes(const zr_simlink_conf *conf)
{
    if (!in_range(conf))
        return 0;
    return sizeof(zr_simlink) + conf->packets_max * (sizeof(entry) + sizeof(slot));
}

int zr_simlink_init(zr_simlink *link, const zr_simlink_conf *conf)
{
    if (!in_range(conf))
        return ZR_E_inval;
    memset(link, 0, sizeof *link);
    link->conf = *conf;
    link->heap = (entry *)(void *)(link + 1);
    link->slots = (slot *)(void *)(link->heap + conf->packets_max);
    for (uint32_t i = 0; i < conf->packets_max; i++)
        link->slots[i].next_free = i + 1; /* packets_max ends the list */
    zr_rng_seed(&link->rng, conf->seed);

    if (conf->rate_bps != 0) {
        uint32_t queue_bytes = conf->queue_bytes ? conf->queue_bytes : QUEUE_BYTES_DEFAULT;
        double ns = (double)queue_bytes * NS_BITS / (double)conf->rate_bps;
        link->queue_ns = ns < (double)DELAY_MAX ? (zr_ns_t)ns : DELAY_MAX;
    }
    if (conf->burst > 1 && conf->loss > 0) {
        /* Bad runs last 1/to_good packets on average; the share of bad ones is to_bad / (to_bad + to_good). */
        link->to_good = 1 / conf->burst;
        link->to_bad = conf->loss < 1 ? link->to_good * conf->loss / (1 - conf->loss) : 1;
        if (link->to_bad >= 1) {
            link->to_bad = 1;
            link->to_good = (1 - conf->loss) / conf->loss;
        }
        link->bad = zr_rng_chance(&link->rng, conf->loss); /* as if it had run for ever */
    }
    return ZR_OK;
}

static bool is_lost(zr_simlink *link)
{
    if (link->conf.burst <= 1)
        return zr_rng_chance(&link->rng, link->conf.loss);
    bool lost = link->bad;
    if (zr_rng_chance(&link->rng, link->bad ? link->to_good : link->to_bad))
        link->bad = !link->bad;
    return lost;
}

/* When the bottleneck has sent the packet; ZR_NEVER when its queue has no room. */
static zr_ns_t pass_bottleneck(zr_simlink *link, size_t len, zr_ns_t now)
{
    if (link->conf.rate_bps == 0)
        return now;
    zr_ns_t start = ZR_MAX(now, link->busy_until);
    uint64_t work = (uint64_t)len * NS_BITS + link->rate_rest;
    zr_ns_t takes = (zr_ns_t)ZR_MIN(work / link->conf.rate_bps, (uint64_t)DELAY_MAX);
    /* One packet is always taken by an idle link, however small the queue. */
    if (start > now && start - now + takes > link->queue_ns)
        return ZR_NEVER;
    link->rate_rest = work % link->conf.rate_bps;
    link->busy_until = start + takes;
    return link->busy_until;
}

static bool before(const entry *a, const entry *b)
{
    return a->due != b->due ? a->due < b->due : a->order < b->order;
}

static void heap_push(zr_simlink *link, entry item)
{
    uint32_t at = link->in_flight++;
    while (at > 0 && before(&item, &link->heap[(at - 1) / 2])) {
        link->heap[at] = link->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    link->heap[at] = item;
}

static entry heap_pop(zr_simlink *link)
{
    entry top = link->heap[0], item = link->heap[--link->in_flight];
    uint32_t at = 0, child;
    while ((child = 2 * at + 1) < link->in_flight) {
        if (child + 1 < link->in_flight && before(&link->heap[child + 1], &link->heap[child]))
            child++;
        if (!before(&link->heap[child], &item))
            break;
        link->heap[at] = link->heap[child];
        at = child;
    }
    link->heap[at] = item;
    return top;
}

static void send_off(zr_simlink *link, const void *data, size_t len, uint64_t tag, zr_ns_t now)
{
    const zr_simlink_conf *conf = &link->conf;

    if (link->in_flight == conf->packets_max) {
        link->counts.overflow++;
        return;
    }
    zr_ns_t sent = pass_bottleneck(link, len, now);
    if (sent == ZR_NEVER) {
        link->counts.queue_dropped++;
        return;
    }

    zr_ns_t due;
    if (zr_rng_chance(&link->rng, conf->reorder)) {
        zr_ns_t early = conf->jitter > 0 ? conf->jitter : conf->delay / 2;
        due = sent + conf->delay - (zr_ns_t)zr_rng_below(&link->rng, (uint64_t)early + 1);
        due = ZR_MAX(due, sent);
        if (due < link->last_due)
            link->counts.reordered++;
    } else {
        due = sent + conf->delay;
        if (conf->jitter > 0)
            due += (zr_ns_t)zr_rng_below(&link->rng, (uint64_t)conf->jitter + 1);
        due = ZR_MAX(due, link->last_due);
    }
    link->last_due = ZR_MAX(due, link->last_due);

    uint32_t index = link->free_head;
    slot *to = &link->slots[index];
    link->free_head = to->next_free;
    to->tag = tag;
    to->len = (uint32_t)len;
    if (len > 0)
        memcpy(to->data, data, len);
    heap_push(link, (entry){ .due = due, .order = link->order++, .slot = index });
}

int zr_simlink_put(zr_simlink *link, const void *data, size_t len, uint64_t tag, zr_ns_t now)
{
    if (len > ZR_SIMLINK_LEN_MAX)
        return ZR_E_oversize;
    link->counts.in++;
    if (is_lost(link)) {
        link->counts.lost++;
        return ZR_OK;
    }
    bool twice = zr_rng_chance(&link->rng, link->conf.dup);
    send_off(link, data, len, tag, now);
    if (twice) {
        link->counts.duplicated++;
        send_off(link, data, len, tag, now);
    }
    return ZR_OK;
}

zr_ns_t zr_simlink_deadline(const zr_simlink *link)
{
    return link->in_flight > 0 ? link->heap[0].due : ZR_NEVER;
}

int zr_simlink_get(zr_simlink *link, const uint8_t **data, uint64_t *tag, zr_ns_t now)
{
    if (zr_simlink_deadline(link) > now || link->in_flight == 0)
        return ZR_E_again;
    entry top = heap_pop(link);
    slot *from = &link->slots[top.slot];
    /* Free at once: nothing writes into the slot before the next call, which ends the loan. */
    from->next_free = link->free_head;
    link->free_head = top.slot;
    link->counts.out++;
    *data = from->data;
    *tag = from->tag;
    return (int)from->len;
}

const zr_simlink_counts *zr_simlink_counted(const zr_simlink *link)
{
    return &link->counts;
}

bool zr_simlink_check(const zr_simlink *link)
{
    const zr_simlink_counts *counts = &link->counts;
    uint32_t max = link->conf.packets_max, free_slots = 0;

    for (uint32_t at = link->free_head; at != max; at = link->slots[at].next_free)
        if (at > max || ++free_slots > max)
            return false;
    if (free_slots + link->in_flight != max)
        return false;
    for (uint32_t i = 0; i < link->in_flight; i++) {
        const entry *item = &link->heap[i];
        if (item->slot >= max || item->due > link->last_due || item->order >= link->order)
            return false;
        if (i > 0 && before(item, &link->heap[(i - 1) / 2]))
            return false;
    }
    return counts->in + counts->duplicated ==
           counts->lost + counts->queue_dropped + counts->overflow + counts->out + link->in_flight;
}
