/*
 * zr_list.h - intrusive doubly linked lists inside one process. A link that is on no list points at itself, so taking
 * it off is always allowed.
 */
#ifndef ZR_LIST_H
#define ZR_LIST_H

#include "base/zr_base.h"

typedef struct zr_list {
    struct zr_list *next, *prev;
} zr_list;

/* Lists and links alike, before first use. */
static inline void zr_list_init(zr_list *link)
{
    link->next = link->prev = link;
}

static inline bool zr_list_empty(const zr_list *list)
{
    return list->next == list;
}

static inline bool zr_list_linked(const zr_list *link)
{
    return link->next != link;
}

static inline void zr_list_append(zr_list *list, zr_list *link)
{
    link->prev = list->prev;
    link->next = list;
    list->prev->next = link;
    list->prev = link;
}

static inline void zr_list_prepend(zr_list *list, zr_list *link)
{
    zr_list_append(list->next, link);
}

static inline void zr_list_remove(zr_list *link)
{
    link->prev->next = link->next;
    link->next->prev = link->prev;
    zr_list_init(link);
}

/* Walks owners; `link` must not be removed inside the body unless the body leaves the loop. */
#define ZR_LIST_EACH(var, list, type, member)                                                                          \
    for (type *var = ZR_CONTAINER((list)->next, type, member); &var->member != (list);                                 \
         var = ZR_CONTAINER(var->member.next, type, member))
#define ZR_LIST_FIRST(list, type, member) ZR_CONTAINER((list)->next, type, member)

#endif
