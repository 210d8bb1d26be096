/*
 * zr_stream.h - a stream: its tracks, its numbers, the packets of this turn.
 *
 * A local stream gives the media numbers; a pulled one lets each number in once, whoever brings it. Numbers are kept
 * unwrapped: the 64-bit number nearest to the highest one seen.
 */
#ifndef ZR_STREAM_H
#define ZR_STREAM_H

#include "base/zr_addr.h"
#include "base/zr_err.h"
#include "coll/zr_win.h"
#include "forward/zr_item.h"
#include "forward/zr_list.h"
#include "forward/zr_shed.h"
#include "stat/zr_stat.h"

#define ZR_STALL        ZR_MS(200)
#define ZR_HOLE_WAIT    ZR_MS(500) /* once to twice this long, a missing number is asked for when the parent changes */
#define ZR_INGRESS_NONE UINT32_MAX
#define ZR_STREAM_OURS  UINT32_MAX /* `from`: no mirror of another worker's stream */

struct zr_sub;

enum zr_track_kind { ZR_TRACK_AUDIO, ZR_TRACK_VIDEO, ZR_TRACK_DATA, ZR_TRACK_KINDS };

typedef struct zr_track_conf {
    uint8_t kind, codec, payload_type;
    uint32_t clock_rate;
    uint32_t ssrc; /* 0: whatever comes */
} zr_track_conf;

typedef struct zr_track {
    zr_track_conf conf;
    bool used;
    bool heard;  /* ssrc is known, and at the origin source */
    bool locked; /* learned source, not yet silent for 2 s */
    bool keyed;  /* key_timestamp is that of a key frame */
    uint32_t ssrc, key_timestamp;
    uint32_t timestamp;   /* of its last packet */
    zr_addr source, rtcp; /* origin: where RTP and RTCP of this track come from; rtcp.family 0: not heard */
    zr_ns_t heard_ns;
    zr_ns_t asked_ns;           /* last key frame request that went upstream; 0: never */
    zr_ns_t mend_at, mend_wait; /* no key frame is asked for before, because of what was shed */
} zr_track;

typedef struct zr_stream {
    bool open, local, live;
    uint8_t track_count; /* highest index + 1 */
    uint16_t pli;        /* bit per track: a PLI is to be sent to the publisher */
    uint32_t slot, ingress;
    uint64_t epoch;
    uint64_t next;            /* local: the next number; pulled: one above the highest seen. Unwrapped */
    uint64_t whole;           /* pulled: every number below is here or was missing for too long */
    uint64_t waited, waiting; /* pulled: `next` at the last two looks, ZR_HOLE_WAIT apart or more */
    zr_ns_t looked_ns;
    uint64_t ordinal;                 /* of the last packet accepted */
    zr_ns_t last_ns;                  /* of RTP */
    zr_itemq turn;                    /* accepted, not yet fanned out */
    zr_itemq out;                     /* fanned out, RTP subscribers not yet all served */
    zr_list turning, leaving, asking; /* in zr_fwd's lists: turn, out, pli not empty */
    zr_list rushing;                  /* and rush */
    zr_list players, children;        /* zr_sub */
    zr_list pulls;                    /* zr_pull */
    zr_itemq urgent, wait;            /* held for the players: audio and control; the rest */
    zr_itemq rush;                    /* of the urgent ones, those that pass what is in `out` */
    zr_item *rush_at;                 /* the next of them for the RTP subscriber whose turn it is there */
    struct zr_sub *rusher;            /* NULL: all have got them */
    bool out_urgent;                  /* `out` has urgent ones, too: later ones do not pass them */
    zr_list holding;                  /* in zr_fwd's list: one of the two is not empty */
    zr_ns_t shed_at;                  /* what is held is not looked through before, for its age */
    uint16_t gated, cut;              /* bit per track: something of it is left out, on arrival, for the players */
    uint32_t from, from_slot, feed;   /* a mirror: of which worker's stream, its slot there, the number of this life */
    uint64_t mirrors, catching;       /* bit per worker: has a mirror of this stream; still gets what the cache holds */
    zr_list catchers;                 /* in zr_mirrors.catching while there are such */
    struct zr_sub *serving;           /* the RTP subscriber whose turn it is in `out`; NULL: all served */
    zr_stream_row *row;
    zr_win window;
    zr_track tracks[ZR_TRACKS_MAX];
    zr_shed_track gates[ZR_TRACKS_MAX], cuts[ZR_TRACKS_MAX]; /* where `gated`, `cut` have a bit */
} zr_stream;

/* Once, over zeroed memory. */
void zr_stream_init(zr_stream *stream, uint32_t slot, zr_stream_row *row);
/* Opens a closed one; its row starts at zero. */
void zr_stream_open(zr_stream *stream, bool local, uint64_t epoch, uint32_t number);
/* Another epoch: numbers, window and tracks start anew; subscribers and queues are the caller's. */
void zr_stream_restart(zr_stream *stream, bool local, uint64_t epoch, uint32_t number);
void zr_stream_close(zr_stream *stream);

/* ZR_OK or ZR_E_inval. The same again changes nothing. */
int zr_stream_set_track(zr_stream *stream, uint32_t track, const zr_track_conf *conf);
/* The track of an RTP packet; ZR_E_missing with *drop track (payload type) or source (declared SSRC). */
int zr_stream_match(const zr_stream *stream, uint8_t payload_type, uint32_t ssrc, enum zr_drop_id *drop);
/* The track whose SSRC this is; ZR_E_missing. */
int zr_stream_by_ssrc(const zr_stream *stream, uint32_t ssrc);

/* Local: the number of the next packet. */
uint32_t zr_stream_take_number(zr_stream *stream);
/* Pulled: is this number new? ZR_OK, or ZR_E_dropped with *drop late or duplicate. Changes nothing. */
int zr_stream_look(const zr_stream *stream, uint32_t number, enum zr_drop_id *drop);
/* Pulled: it is taken. True: the newest of all so far. */
bool zr_stream_mark(zr_stream *stream, uint32_t number);
/* Pulled: is a number below this one missing, and not for too long yet? */
bool zr_stream_lacks(const zr_stream *stream, uint32_t number);
/* Marks at the origin: key frames begin once per RTP timestamp, and every packet of one has drop class 3. */
void zr_stream_classify(zr_track *track, zr_item *item);

/* Of an RTP packet of this stream: notes its track's timestamp, and whether it begins a frame. */
void zr_stream_note_frame(zr_stream *stream, zr_item *item);
/* How it ranks when there is too much. */
zr_shed_frame zr_stream_frame(const zr_stream *stream, const zr_item *item);

/* Row: an accepted packet, a dropped one. */
void zr_stream_count(zr_stream *stream, const zr_item *item, zr_ns_t now);
void zr_stream_count_drop(zr_stream *stream, enum zr_drop_id drop);

#endif
