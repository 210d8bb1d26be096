/*
 * zr_bare.h - the least a forwarder can do: what a relay's cost is measured against. Not part of any relay.
 *
 *   recvmmsg (blocking, GRO) -> runs -> sendmmsg of one UDP_SEGMENT message per run and destination
 *
 * A run is what one turn got, equal sizes in a row, up to the kernel's limits, as a relay's egress makes them
 * (net/zr_udp_tx.h); its bytes stay where they were received. Without `segment` each datagram is received and sent on
 * its own. No checks, no counters on the way, no other socket: one thread, one loop.
 */
#ifndef ZR_BARE_H
#define ZR_BARE_H

#include "base/zr_addr.h"
#include "base/zr_base.h"

#define ZR_BARE_TO_MAX 4096u

typedef struct zr_bare zr_bare;

/* 0 when out of range. */
size_t zr_bare_bytes(uint32_t to_count);
/* In `mem`, aligned to ZR_CACHELINE; `fd` is a bound socket, the caller's. NULL when something is out of range. */
zr_bare *zr_bare_init(void *mem, int fd, const zr_addr *to, uint32_t to_count, bool segment);
/* One recvmmsg, waiting for it when `wait`, and all that follows; datagrams received. */
int zr_bare_turn(zr_bare *bare, bool wait);
/* Until the process ends. */
_Noreturn void zr_bare_run(zr_bare *bare);

#endif
