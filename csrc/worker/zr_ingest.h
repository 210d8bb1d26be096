/*
 * zr_ingest.h - a received datagram becomes a packet of the pool and goes where its socket belongs: the one ingress
 * copy. What does not become a packet is counted here, so that the ledgers stay exact. The worker and the binding's
 * simulated relay share it.
 */
#ifndef ZR_INGEST_H
#define ZR_INGEST_H

#include "forward/zr_fwd.h"

/* `came`: when the kernel got it, <= now. `sock`: ZR_SOCK_LINK, ZR_SOCK_EGRESS or ZR_SOCK_INGRESS + slot. ZR_OK or
 * ZR_E_dropped. */
int zr_ingest(zr_fwd *fwd, zr_stat_page *page, uint32_t sock, const uint8_t *data, size_t len, bool truncated,
              const zr_addr *from, zr_ns_t came, zr_ns_t now);
/* A datagram of a link socket that never became a packet: received, and dropped for `why`. */
int zr_ingest_link_lost(zr_stat_page *page, size_t len, enum zr_drop_id why);

#endif
