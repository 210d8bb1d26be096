/*
 * zr_udp_tx_priv.h - a sender's insides: zr_udp_tx.c (the calls, what errors mean), zr_udp_list.c (a batch as
 * messages), zr_udp_routes.c (what is known of destinations).
 */
#ifndef ZR_UDP_TX_PRIV_H
#define ZR_UDP_TX_PRIV_H

#include <sys/uio.h>

#include "net/zr_udp_tx.h"

#define ZR_ROUTE_SLOTS 256u /* a collision only makes us ask the kernel again */

typedef struct zr_udp_down { /* cannot be reached from here */
    zr_addr to;              /* pad 1: this very address; else a host, port 0 */
    zr_ns_t since, until;
} zr_udp_down;

typedef struct zr_udp_routes {
    bool gso;
    uint32_t no_gso_count, down_count;
    zr_ns_t swept;
    zr_addr no_gso[ZR_ROUTE_SLOTS]; /* hosts */
    zr_udp_down down[ZR_ROUTE_SLOTS];
} zr_udp_routes;

typedef struct tx_message { /* what belongs to the mmsghdr of the same number */
    const zr_tx *first;
    const zr_addr *to;
    uint32_t count, bytes;
    uint8_t name[ZR_UDP_NAME_BYTES];
    alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(uint16_t))];
} tx_message;

typedef struct tx_list { /* messages ready to go, and their headers in one array for the kernel */
    struct mmsghdr *hdrs;
    tx_message *messages;
    struct iovec *iovs;
    uint32_t count, iov_count, at; /* at: the first that is not settled */
} tx_list;

/* zr_udp_list.c */
size_t zr_udp_list_bytes(uint32_t dgrams);
tx_list zr_udp_list_at(void *mem, uint32_t dgrams);
static inline void zr_udp_list_clear(tx_list *list)
{
    list->count = list->iov_count = list->at = 0;
}
/* Appends what leaves by socket `number`; counts what never gets so far as dropped. Returns how many those were. */
uint32_t zr_udp_list_fill(tx_list *list, zr_udp_routes *routes, const zr_udp_sock *sock, uint16_t number,
                          const zr_batch *batch, zr_stat_page *page, zr_ns_t now);
/* The entries of one message as messages of their own. */
void zr_udp_list_split(tx_list *list, const tx_message *run, uint8_t family);

/* zr_udp_routes.c */
bool zr_udp_gso_allowed(const zr_udp_routes *routes, const zr_addr *to);
void zr_udp_gso_refused(zr_udp_routes *routes, const zr_addr *to, zr_stat_page *page);
/* Is it to be left out for now? */
bool zr_udp_is_down(const zr_udp_routes *routes, const zr_addr *to, zr_ns_t now);
void zr_udp_set_down(zr_udp_routes *routes, const zr_addr *to, bool host, zr_stat_page *page, zr_ns_t now);
void zr_udp_set_up(zr_udp_routes *routes, const zr_addr *to);
/* Forgets those nobody has asked for in a second. */
void zr_udp_routes_sweep(zr_udp_routes *routes, zr_ns_t now);

#endif
