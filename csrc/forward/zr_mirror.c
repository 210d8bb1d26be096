#include "forward/zr_mirror.h"

#include <string.h>

#include "base/zr_err.h"

size_t zr_mirrors_bytes(uint32_t streams_max, uint32_t workers)
{
    return workers < 2 ? 0 : zr_round_up((size_t)streams_max * workers * sizeof(zr_mirror), ZR_CACHELINE);
}

void zr_mirrors_init(zr_mirrors *mirrors, void *mem, uint32_t self, uint32_t workers)
{
    *mirrors = (zr_mirrors){ .self = self, .workers = workers, .all = mem, .catch_at = ZR_NEVER };
    zr_list_init(&mirrors->catching);
}

bool zr_mirrors_known(const zr_mirrors *mirrors, uint32_t worker)
{
    return worker < mirrors->workers && worker != mirrors->self && mirrors->out[worker].ring != NULL &&
           mirrors->in[worker].ring != NULL;
}

int zr_mirrors_meet(zr_mirrors *mirrors, uint32_t worker, const zr_inbox *inbox)
{
    int rc = ZR_OK;

    if (worker >= mirrors->workers || inbox->workers != mirrors->workers || inbox->record_bytes < ZR_MIRROR_RECORD)
        return ZR_E_inval;
    if (worker != mirrors->self) {
        mirrors->asleep[worker] = &inbox->page->asleep;
        return zr_inbox_writer(&mirrors->out[worker], inbox, mirrors->self);
    }
    mirrors->inbox = *inbox;
    for (uint32_t from = 0; from < mirrors->workers; from++)
        if (from != mirrors->self && zr_inbox_reader(&mirrors->in[from], inbox, from) != ZR_OK)
            rc = ZR_E_version;
    return rc;
}

/* Of a record that ends a packet of `len`: what follows is taken to be as long. Lines that nobody needs would cross
 * from CPU to CPU twice. */
static void fetch_like(zr_inbox_end *end, uint32_t len)
{
    end->next = ZR_MIN((uint32_t)sizeof(zr_record) + len, end->record_bytes);
}

static void commit(zr_mirrors *mirrors, uint32_t worker)
{
    zr_inbox_commit(&mirrors->out[worker]);
    mirrors->written |= (uint64_t)1 << worker;
}

int zr_mirrors_put_media(zr_mirrors *mirrors, uint32_t worker, uint32_t stream, uint32_t feed, const zr_item *item,
                         uint8_t flags)
{
    zr_record *record = zr_inbox_claim(&mirrors->out[worker]);
    zr_media media = item->media;

    if (record == NULL)
        return ZR_E_full;
    ZR_CHECK(item->slice.len <= ZR_RTP_MAX);
    media.flags |= flags;
    record->kind = ZR_RECORD_MEDIA;
    record->len = item->slice.len;
    record->stream = stream;
    record->feed = feed;
    record->track = 0;
    record->arrival = item->arrival;
    zr_media_put(record->media, &media);
    memcpy(record + 1, zr_slice_data(&item->slice), item->slice.len);
    fetch_like(&mirrors->out[worker], item->slice.len);
    commit(mirrors, worker);
    return ZR_OK;
}

int zr_mirrors_put_keyframe(zr_mirrors *mirrors, uint32_t worker, uint32_t stream, uint32_t feed, uint32_t track)
{
    zr_record *record = zr_inbox_claim(&mirrors->out[worker]);

    if (record == NULL)
        return ZR_E_full;
    *record = (zr_record){ .kind = ZR_RECORD_KEYFRAME, .stream = stream, .feed = feed, .track = track };
    commit(mirrors, worker);
    return ZR_OK;
}

const uint8_t *zr_mirrors_take(zr_mirrors *mirrors, uint32_t worker, zr_record *record)
{
    const uint8_t *found = zr_inbox_peek(&mirrors->in[worker]);

    if (found == NULL)
        return NULL;
    memcpy(record, found, sizeof *record);
    fetch_like(&mirrors->in[worker], record->len);
    return found + sizeof *record;
}

bool zr_mirrors_waiting(zr_mirrors *mirrors)
{
    for (uint32_t from = 0; from < mirrors->workers; from++)
        if (zr_inbox_waiting(&mirrors->in[from]) > 0)
            return true;
    return false;
}
