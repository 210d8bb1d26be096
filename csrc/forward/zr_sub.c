#include "forward/zr_sub.h"

static uint32_t dests_for(uint32_t max)
{
    return 2 * max + ZR_TRACKS_MAX;
}

static uint32_t buckets_for(uint32_t max)
{
    return zr_pow2_up(dests_for(max));
}

static zr_dest **bucket_of(const zr_subs *subs, const zr_addr *addr)
{
    return &subs->buckets[zr_addr_hash(addr) & subs->bucket_mask];
}

size_t zr_subs_bytes(uint32_t max)
{
    return zr_round_up(max * sizeof(zr_sub), ZR_CACHELINE) +
           zr_round_up(dests_for(max) * sizeof(zr_dest), ZR_CACHELINE) +
           zr_round_up(buckets_for(max) * sizeof(zr_dest *), ZR_CACHELINE);
}

void zr_subs_init(zr_subs *subs, void *mem, uint32_t max)
{
    unsigned char *at = mem;

    *subs = (zr_subs){ .all = mem, .max = max, .bucket_mask = buckets_for(max) - 1 };
    at += zr_round_up(max * sizeof(zr_sub), ZR_CACHELINE);
    subs->dests = (void *)at;
    at += zr_round_up(dests_for(max) * sizeof(zr_dest), ZR_CACHELINE);
    subs->buckets = (void *)at;
}

static zr_dest *take_dest(zr_subs *subs)
{
    zr_dest *dest = subs->dest_free;

    if (dest != NULL)
        subs->dest_free = dest->next;
    else if (subs->dests_used < dests_for(subs->max))
        dest = &subs->dests[subs->dests_used++];
    return dest;
}

zr_sub *zr_subs_get(const zr_subs *subs, uint32_t slot)
{
    return slot < subs->max && subs->all[slot].stream != NULL ? &subs->all[slot] : NULL;
}

zr_sub *zr_subs_add(zr_subs *subs, uint32_t slot, zr_stream *stream, bool child)
{
    zr_sub *sub;

    if (slot >= subs->max || subs->all[slot].stream != NULL)
        return NULL;
    sub = &subs->all[slot];
    *sub = (zr_sub){ .stream = stream, .slot = slot, .child = child, .since = stream->ordinal + 1 };
    sub->tracks = UINT16_MAX;
    sub->spatial = sub->temporal = UINT8_MAX;
    zr_list_init(&sub->joining);
    zr_list_init(&sub->asking);
    zr_list_append(child ? &stream->children : &stream->players, &sub->in_stream);
    subs->count++;
    subs->used = ZR_MAX(subs->used, slot + 1);
    return sub;
}

static void give_dest(zr_subs *subs, zr_dest *dest)
{
    zr_dest **at = bucket_of(subs, &dest->addr);

    while (*at != dest)
        at = &(*at)->hash_next;
    *at = dest->hash_next;
    dest->next = subs->dest_free;
    subs->dest_free = dest;
}

void zr_subs_remove(zr_subs *subs, zr_sub *sub)
{
    while (sub->dests != NULL) {
        zr_dest *dest = sub->dests;
        sub->dests = dest->next;
        give_dest(subs, dest);
    }
    zr_list_remove(&sub->in_stream);
    sub->stream = NULL;
    subs->count--;
}

int zr_subs_set_addr(zr_subs *subs, zr_sub *sub, uint8_t track, const zr_addr *addr)
{
    zr_dest **at = &sub->dests, **bucket, *dest;

    while (*at != NULL && (*at)->track != track)
        at = &(*at)->next;
    if (*at != NULL) {
        dest = *at;
        *at = dest->next;
        give_dest(subs, dest);
    }
    if ((dest = take_dest(subs)) == NULL)
        return ZR_E_nomem;
    bucket = bucket_of(subs, addr);
    *dest = (zr_dest){ .addr = *addr, .sub = sub, .track = track, .next = sub->dests, .hash_next = *bucket };
    sub->dests = *bucket = dest;
    if (track != ZR_TRACK_DEFAULT)
        sub->own |= (uint16_t)(1u << track);
    return ZR_OK;
}

const zr_addr *zr_sub_addr(const zr_sub *sub, uint32_t track)
{
    const zr_addr *found = NULL;

    for (const zr_dest *dest = sub->dests; dest != NULL; dest = dest->next) {
        if (dest->track == track)
            return &dest->addr;
        if (dest->track == ZR_TRACK_DEFAULT)
            found = &dest->addr;
    }
    return found;
}

zr_dest *zr_subs_at(const zr_subs *subs, const zr_addr *addr, const zr_dest *after)
{
    zr_dest *dest = after == NULL ? *bucket_of(subs, addr) : after->hash_next;

    while (dest != NULL && !zr_addr_eq(&dest->addr, addr))
        dest = dest->hash_next;
    return dest;
}

bool zr_sub_wants(const zr_sub *sub, const zr_item *item)
{
    const zr_media *media = &item->media;

    if ((sub->tracks & 1u << media->track) == 0 || media->spatial > sub->spatial || media->temporal > sub->temporal)
        return false;
    /* Class 3 and below: control, audio, and every packet of a key frame, in whatever order they came. */
    return !sub->warm || media->cls <= 3;
}

uint8_t zr_sub_pass(const zr_sub *sub, const zr_item *item)
{
    return (sub->own & 1u << item->media.track) == 0 ? 0 : (uint8_t)(item->media.track + 1);
}

bool zr_subs_check(const zr_subs *subs)
{
    uint32_t used = 0, dests = 0, hashed = 0, spare = 0;

    for (uint32_t i = 0; i < subs->max; i++) {
        const zr_sub *sub = &subs->all[i];
        if (sub->stream == NULL)
            continue;
        used++;
        if (!sub->stream->open || !zr_list_linked(&sub->in_stream) ||
            zr_list_linked(&sub->asking) != (sub->asked.count > 0))
            return false;
        for (const zr_dest *dest = sub->dests; dest != NULL; dest = dest->next, dests++)
            if (dest->sub != sub)
                return false;
    }
    for (uint32_t i = 0; i <= subs->bucket_mask; i++)
        for (const zr_dest *dest = subs->buckets[i]; dest != NULL; dest = dest->hash_next)
            hashed++;
    for (const zr_dest *dest = subs->dest_free; dest != NULL; dest = dest->next)
        spare++;
    return used == subs->count && dests == hashed && dests + spare == subs->dests_used;
}
