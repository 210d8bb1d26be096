/*
 * zr_udp_tx.h - empties a zr_batch into sockets: runs become UDP_SEGMENT messages, all messages of one socket go in as
 * few sendmmsg as possible.
 *
 *   batch    a1200 a1200 a1200 a900 | b1200 | a1200          consecutive entries, same destination and socket
 *   messages [ a: 4 datagrams      ] [ b: 1] [ a: 1]         a run: equal lengths, the last may be shorter
 *   fans                                                     the same messages, only the name differs
 *
 * Every datagram ends as tx_sent or as one egress drop, exactly once; until then it is tx_waiting. sendmmsg tells no
 * errno after a partial send: the next call, which begins at the first unsent message, does. By errno:
 *
 *   EINTR            again at once
 *   EAGAIN           the rest is kept: ZR_E_again, and the caller comes back when the socket takes more
 *   ECONNREFUSED     an earlier datagram's: counted, this message once more. So may be EHOSTUNREACH, ENETUNREACH,
 *                    EHOSTDOWN, EACCES, EMSGSIZE, which count for this one when they are said twice
 *   ENOBUFS, ENOMEM  dropped: `nobufs`, only urgent ones are tried again a millisecond later; what follows is paced:
 *                    four fifths of the rate of the last 10 ms, for 100 ms; if it is said again by then or in the 100
 *                    ms after, what the card has taken meanwhile, for 250 ms
 *   EIO, EINVAL, EMSGSIZE on a run   its entries go out one by one, and so does all that follows for this host: routes
 *                    lack UDP_SEGMENT, which setsockopt does not tell
 *   EMSGSIZE         dropped: `oversize`, its length told, and who it was for: zr_udp_tx_oversize
 *   ENETUNREACH, EHOSTUNREACH, ENETDOWN, EHOSTDOWN, EADDRNOTAVAIL   dropped: `refused`, and the host
 *   EINVAL, EPERM, EACCES                                           dropped: `refused`, and this very address
 *                    is left out (`local_unreachable`) for a twentieth of the time it has been so, 1 to 50 ms
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

/* For batches of up to `entries` entries and `fans` fans. */
size_t zr_udp_tx_bytes(uint32_t entries, uint32_t fans);
/* In `mem`, aligned to ZR_CACHELINE. `gso` false: every run is one datagram. */
zr_udp_tx *zr_udp_tx_init(void *mem, uint32_t entries, uint32_t fans, bool gso, const zr_udp_calls *calls);

/* Sends the batch: ZR_OK when all of it is settled. ZR_E_again: the rest is kept; the batch must stay as it is, and the
 * next call, with the same batch, goes on at the first unsent message. socks[entry.sock] for entry.sock < sock_count;
 * what is for a closed socket (fd -1) or one beyond that is dropped: `error`. What an ingress socket does not take at
 * once (a key frame request) is dropped: `again`. */
int zr_udp_send(zr_udp_tx *tx, const zr_udp_sock *socks, uint32_t sock_count, const zr_batch *batch, zr_stat_page *page,
                zr_ns_t now);
/* After ZR_E_again: call again when the socket is writable, if that is what it waits for, and at this time at the
 * latest. */
bool zr_udp_tx_full(const zr_udp_tx *tx);
zr_ns_t zr_udp_tx_resume(const zr_udp_tx *tx);
/* Drops what is left: `again`. The batch is the caller's once more. */
void zr_udp_tx_give_up(zr_udp_tx *tx, zr_stat_page *page);
/* A datagram that its own interface refused as too long, since this was asked last: who it was for, and how long it was
 * (UDP payload). False: no more are known; of many between two asks, the first ZR_UDP_OVERSIZE are. */
#define ZR_UDP_OVERSIZE 16u
bool zr_udp_tx_oversize(zr_udp_tx *tx, zr_addr *to, uint32_t *bytes);
/* Records the delays of what zr_udp_send has sent since the last call; `now`: when it returned. */
void zr_udp_tx_timed(zr_udp_tx *tx, zr_stat_page *page, zr_ns_t now);

#endif
