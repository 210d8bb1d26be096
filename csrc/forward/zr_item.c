#include "forward/zr_item.h"

size_t zr_items_bytes(uint32_t count)
{
    return zr_round_up((size_t)count * sizeof(zr_item), ZR_CACHELINE);
}

void zr_items_init(zr_items *items, void *mem, uint32_t count)
{
    *items = (zr_items){ .all = mem, .count = count };
}

bool zr_items_left(const zr_items *items)
{
    return items->in_use < items->count;
}

zr_item *zr_items_take(zr_items *items)
{
    zr_item *item = items->free;

    if (item != NULL)
        items->free = item->next;
    else if (items->used < items->count)
        item = &items->all[items->used++];
    else
        return NULL;
    items->in_use++;
    *item = (zr_item){ .next = NULL };
    return item;
}

void zr_items_give(zr_items *items, zr_item *item)
{
    zr_pkt_drop(item->slice.pkt);
    item->slice.pkt = NULL;
    item->next = items->free;
    items->free = item;
    items->in_use--;
}

zr_item *zr_items_copy(zr_items *items, const zr_item *from)
{
    zr_item *item = zr_items_take(items);

    if (item == NULL)
        return NULL;
    *item = *from;
    item->next = item->hash_next = NULL;
    item->indexed = false;
    zr_pkt_hold(item->slice.pkt);
    return item;
}

void zr_itemq_push(zr_itemq *queue, zr_item *item)
{
    item->next = NULL;
    if (queue->tail == NULL)
        queue->head = item;
    else
        queue->tail->next = item;
    queue->tail = item;
    queue->count++;
    queue->bytes += item->slice.len;
}

zr_item *zr_itemq_pop(zr_itemq *queue)
{
    zr_item *item = queue->head;

    if (item == NULL)
        return NULL;
    queue->head = item->next;
    if (queue->head == NULL)
        queue->tail = NULL;
    queue->count--;
    queue->bytes -= item->slice.len;
    return item;
}

void zr_itemq_clear(zr_itemq *queue, zr_items *items)
{
    for (zr_item *item; (item = zr_itemq_pop(queue)) != NULL;)
        zr_items_give(items, item);
}
