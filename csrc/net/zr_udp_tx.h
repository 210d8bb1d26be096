/*
 * zr_udp_tx.h - empties a zr_batch into sockets: runs become UDP_SEGMENT messages, all messages of one socket go in as
 * few sendmmsg as possible.
 *
 *   batch    a1200 a1200 a1200 a900 | b1200 | a1200          consecutive entries, same destination and socket
 *   messages [ a: 4 datagrams      ] [ b: 1] [ a: 1]         a run: equal lengths, the last may be shorter
 *
 * Every entry ends as tx_sent or as one egress drop. sendmmsg tells no errno after a partial send: the next call, which
 * begins at the first unsent message, does. By errno:
 *
 *   EINTR            again at once
 *   EAGAIN           once more at once, then the rest of this socket's messages are dropped: `again`
 *   ECONNREFUSED     an earlier packet's: this message once more
 *   EIO, EINVAL, EMSGSIZE on a run   its entries go out one by one, and so does all that follows for this host: routes
 *                    lack UDP_SEGMENT, which setsockopt does not tell
 *   EMSGSIZE         dropped: `oversize`
 *   unreachable, not permitted, invalid  dropped: `refused`
 *   EBADF, ENOTSOCK, EFAULT   our bug: abort
 *   anything else    dropped: `error`
 */
#ifndef ZR_UDP_TX_H
#define ZR_UDP_TX_H

#include "mem/zr_batch.h"
#include "net/zr_udp.h"
#include "stat/zr_stat.h"

#define ZR_UDP_RUN_MAX       64u    /* the kernel's UDP_MAX_SEGMENTS */
#define ZR_UDP_RUN_BYTES_MAX 65000u /* of one message, headers left out */

typedef struct zr_udp_tx zr_udp_tx;

size_t zr_udp_tx_bytes(uint32_t entries_max);
/* In `mem`, aligned to ZR_CACHELINE, for batches of up to `entries_max`. `gso` false: every run is one datagram. */
zr_udp_tx *zr_udp_tx_init(void *mem, uint32_t entries_max, bool gso, const zr_udp_calls *calls);
/* Sends all of the batch; the batch itself is left as it is. socks[entry.sock] for entry.sock < sock_count; what is
 * for a closed socket (fd -1) or one beyond that is dropped: `error`. */
void zr_udp_send(zr_udp_tx *tx, const zr_udp_sock *socks, uint32_t sock_count, const zr_batch *batch,
                 zr_stat_page *page);

#endif
