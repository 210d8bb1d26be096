#include "ring/zr_inbox.h"

#include "base/zr_err.h"

#define MAGIC   0x31786F626E69727Au
#define VERSION 1u

size_t zr_inbox_bytes(uint32_t workers, uint32_t slots, uint32_t record_bytes)
{
    size_t ring = zr_spsc_bytes(slots, record_bytes);

    if (workers == 0 || workers > ZR_INBOX_WORKERS || ring == 0)
        return 0;
    return sizeof(zr_inbox_page) + workers * ring;
}

static zr_spsc_mem *ring_of(const zr_inbox *inbox, uint32_t from)
{
    return (zr_spsc_mem *)(void *)(inbox->page->rings + from * zr_spsc_bytes(inbox->slots, inbox->record_bytes));
}

int zr_inbox_init(zr_inbox_page *page, uint32_t workers, uint32_t slots, uint32_t record_bytes)
{
    const zr_inbox inbox = { .page = page, .workers = workers, .slots = slots, .record_bytes = record_bytes };

    if ((uintptr_t)page % ZR_CACHELINE != 0 || zr_inbox_bytes(workers, slots, record_bytes) == 0)
        return ZR_E_inval;
    page->version = VERSION;
    page->workers = workers;
    page->slots = slots;
    page->record_bytes = record_bytes;
    page->generation = 0;
    atomic_init(&page->asleep, 0);
    for (uint32_t i = 0; i < workers; i++)
        (void)zr_spsc_init(&(zr_spsc){ 0 }, ring_of(&inbox, i), slots, record_bytes, 0);
    page->magic = MAGIC;
    return ZR_OK;
}

int zr_inbox_look(zr_inbox *inbox, zr_inbox_page *page, size_t bytes)
{
    *inbox = (zr_inbox){ .page = NULL };
    if ((uintptr_t)page % ZR_CACHELINE != 0)
        return ZR_E_inval;
    if (bytes < sizeof *page || page->magic != MAGIC || page->version != VERSION)
        return ZR_E_version;
    /* Each read once: what is checked is what is kept. */
    const zr_inbox found = { page, *(volatile uint32_t *)&page->workers, *(volatile uint32_t *)&page->slots,
                             *(volatile uint32_t *)&page->record_bytes };
    if (zr_inbox_bytes(found.workers, found.slots, found.record_bytes) != bytes)
        return ZR_E_version;
    *inbox = found;
    return ZR_OK;
}

static zr_inbox_end end_of(const zr_inbox *inbox, uint32_t from)
{
    return (zr_inbox_end){
        .ring = ring_of(inbox, from),
        .slots = inbox->slots,
        .record_bytes = inbox->record_bytes,
        .next = inbox->record_bytes,
    };
}

static uint32_t look(const _Atomic uint32_t *counter)
{
    return atomic_load_explicit(counter, memory_order_acquire);
}

int zr_inbox_reader(zr_inbox_end *end, const zr_inbox *inbox, uint32_t from)
{
    *end = end_of(inbox, from);
    end->at = look(&end->ring->head);
    end->seen = look(&end->ring->tail);
    if (end->seen - end->at <= end->slots)
        return ZR_OK;
    zr_inbox_mend(end);
    return ZR_E_version;
}

int zr_inbox_writer(zr_inbox_end *end, const zr_inbox *inbox, uint32_t from)
{
    *end = end_of(inbox, from);
    end->at = look(&end->ring->tail);
    end->seen = look(&end->ring->head);
    if (end->at - end->seen <= end->slots)
        return ZR_OK;
    end->seen = end->at; /* the reader has stopped; when it goes on, it begins at our counter */
    return ZR_E_version;
}

void zr_inbox_mend(zr_inbox_end *end)
{
    end->corrupt = false;
    end->at = end->seen = look(&end->ring->tail);
    atomic_store_explicit(&end->ring->head, end->at, memory_order_release);
}

static bool full(const zr_inbox_end *end)
{
    return end->at - end->seen >= end->slots; /* also when the reader's counter is beyond ours, which cannot be true */
}

static unsigned char *record_at(const zr_inbox_end *end)
{
    return end->ring->slots + (size_t)(end->at & (end->slots - 1)) * end->record_bytes;
}

void *zr_inbox_claim(zr_inbox_end *end)
{
    if (full(end)) {
        /* Pairs with release(): the reader's loads from the record are over before we write into it again. */
        end->seen = look(&end->ring->head);
        if (full(end))
            return NULL;
    }
    return record_at(end);
}

/* The next record's lines are still the other core's: asked for now, they are ours when it is filled. Without the
 * attribute gcc would ask for them only to read, and they would have to be asked for twice. */
#ifdef __x86_64__
__attribute__((target("prfchw")))
#endif
static void
fetch_to_write(const unsigned char *at, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i += 4 * ZR_CACHELINE) {
        __builtin_prefetch(at + i, 1);
        __builtin_prefetch(at + i + ZR_CACHELINE, 1);
        __builtin_prefetch(at + i + 2 * ZR_CACHELINE, 1);
        __builtin_prefetch(at + i + 3 * ZR_CACHELINE, 1);
    }
}

void zr_inbox_commit(zr_inbox_end *end)
{
    /* The record's stores are visible before the counter that publishes them. */
    atomic_store_explicit(&end->ring->tail, ++end->at, memory_order_release);
    fetch_to_write(record_at(end), end->next);
}

uint32_t zr_inbox_room(zr_inbox_end *end)
{
    end->seen = look(&end->ring->head);
    return full(end) ? 0 : end->slots - (end->at - end->seen);
}

uint32_t zr_inbox_waiting(zr_inbox_end *end)
{
    if (end->ring == NULL || end->corrupt)
        return 0;
    /* Pairs with commit(): a record is read only after the counter that published it. */
    end->seen = look(&end->ring->tail);
    if (end->seen - end->at <= end->slots)
        return end->seen - end->at;
    end->corrupt = true;
    return 0;
}

uint32_t zr_inbox_depth(const zr_inbox_end *end)
{
    uint32_t depth = end->ring == NULL || end->corrupt ? 0 : look(&end->ring->tail) - end->at;
    return depth <= end->slots ? depth : 0;
}

const void *zr_inbox_peek(zr_inbox_end *end)
{
    if ((end->at == end->seen && zr_inbox_waiting(end) == 0) || end->corrupt)
        return NULL;
    return record_at(end);
}

void zr_inbox_release(zr_inbox_end *end)
{
    /* The record's loads finish before the writer may fill it again. */
    atomic_store_explicit(&end->ring->head, ++end->at, memory_order_release);
    if (end->at == end->seen)
        return;
    /* The next record's lines are still the other core's: asked for now, they come while this one is dealt with. */
    const unsigned char *next = record_at(end);
    for (uint32_t i = 0; i < end->next; i += 4 * ZR_CACHELINE) {
        __builtin_prefetch(next + i);
        __builtin_prefetch(next + i + ZR_CACHELINE);
        __builtin_prefetch(next + i + 2 * ZR_CACHELINE);
        __builtin_prefetch(next + i + 3 * ZR_CACHELINE);
    }
}
