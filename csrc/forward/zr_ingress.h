/*
 * zr_ingress.h - ingress sockets by slot: which stream they feed and who may send there.
 *
 *   listed   only the addresses of the list                                        (required off loopback)
 *   learned  the first valid RTP packet of a track locks that track's source; only 2 s of silence release it
 *
 * Nothing is ever learned from a packet of another address while the lock holds, however right its SSRC and sequence.
 */
#ifndef ZR_INGRESS_H
#define ZR_INGRESS_H

#include "base/zr_err.h"
#include "forward/zr_stream.h"

#define ZR_INGRESS_SOURCES 16u
#define ZR_LOCK_SILENCE    ZR_SEC(2)

typedef struct zr_ingress {
    zr_stream *stream; /* NULL: not bound */
    uint32_t slot;
    bool learn, closing;
    uint8_t source_count;
    zr_addr sources[ZR_INGRESS_SOURCES];
    zr_list locking; /* in the list of ingresses with a locked track */
} zr_ingress;

enum zr_lock { /* what an RTP packet did to its track's lock; bits */
               ZR_LOCK_HELD = 0,
               ZR_LOCK_LOST = 1, /* an earlier lock had run out */
               ZR_LOCK_NEW = 2   /* this packet's source and SSRC are locked now */
};

void zr_ingress_init(zr_ingress *ingress, uint32_t slot);
/* ZR_OK; ZR_E_exists when either is bound elsewhere. Binding again forgets sources and locks. */
int zr_ingress_bind(zr_ingress *ingress, zr_stream *stream, bool learn);
void zr_ingress_unbind(zr_ingress *ingress);
/* Sources and locks start anew; the binding stays. */
void zr_ingress_forget(zr_ingress *ingress);
/* ZR_OK (also when it is there already), ZR_E_full, ZR_E_missing when not bound. */
int zr_ingress_add_source(zr_ingress *ingress, const zr_addr *source);

/* May RTP come from here at all? Learning: always, the track's lock decides. */
bool zr_ingress_allows(const zr_ingress *ingress, const zr_addr *from);
/* RTP of `track` with this SSRC from an allowed address: zr_lock bits, or ZR_E_dropped when another source holds it. */
int zr_ingress_hear(const zr_ingress *ingress, zr_track *track, const zr_addr *from, uint32_t ssrc, zr_ns_t now);
/* RTCP, from any port of a host that may send (RFC 3550 players and ffmpeg use port + 1). */
bool zr_ingress_allows_rtcp(const zr_ingress *ingress, const zr_addr *from);
/* Releases a lock that has been silent for 2 s. */
bool zr_ingress_release(zr_track *track, zr_ns_t now);
bool zr_ingress_locked(const zr_ingress *ingress);

#endif
