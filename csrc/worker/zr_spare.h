/*
 * zr_spare.h - how a worker begins: as a spare, with all its memory at hand, waiting to be told whose place it takes.
 *
 *   supervisor: opens, maps, starts a spare ─▶ spare waits in C ─▶ become {role, epoch} + ingress sockets
 *     ─▶ the role's page and channel move under the prepared worker ─▶ journal replayed ─▶ up ─▶ first turn
 *
 * Every worker starts this way, the first ones too. Between the order and the first turn there is no allocation, no
 * interpreter, and nobody is asked anything: what publishers sent meanwhile lies in the sockets' buffers.
 */
#ifndef ZR_SPARE_H
#define ZR_SPARE_H

#include "worker/zr_worker.h"

typedef struct zr_role { /* a worker's place; all mapped whole, of the sizes the spare was made with */
    zr_stat_page *page;
    zr_chan_mem *chan;
    zr_journal *journal; /* NULL: none is kept */
    zr_worker_fds fds;   /* .fdpass is not looked at */
    uint8_t lane;
    char name[16]; /* of the process from then on; "" keeps it */
} zr_role;

/* `worker` was made over a page and a channel of its own, without descriptors. Waits on `sock`, or on the stop signal,
 * and is worker roles[n] afterwards: `sock` is its fdpass. ZR_E_closed: stopped, or the supervisor is gone;
 * ZR_E_malformed: no order, or sockets that are none; ZR_E_version: page or channel are not what they should be;
 * ZR_E_os. The role's own mappings are gone after ZR_OK. */
int zr_spare_stand_by(zr_worker *worker, int sock, zr_role *roles, uint32_t count);
/* Before zr_worker_init in it: huge pages, where the kernel gives them. What a dead worker held is taken apart page by
 * page before anybody hears of its death: 84 MiB in small ones take 4 to 8 ms, in huge ones 0.3. */
void zr_spare_memory(void *mem, size_t bytes);
/* Touches what the first packets will need, and asks that whatever is ever touched stays in memory. ZR_E_os: it may be
 * paged out (RLIMIT_MEMLOCK). */
int zr_spare_pin(zr_worker *worker);

#endif
