/*
 * zr_cmd.h - what the control plane and a worker tell each other: fixed 64-byte records in the rings of a zr_chan.
 *
 * The control plane owns every slot number (session, stream, ingress, sub): it picks a free one and names it; the
 * worker only checks. A command with seq != 0 is answered by one `done` event with the same seq; seq 0 wants no answer.
 * One list gives the enum, the codec of relay/commands.py and the docs. "_" is an unused field.
 */
#ifndef ZR_CMD_H
#define ZR_CMD_H

#include "base/zr_addr.h"
#include "base/zr_base.h"

typedef struct zr_cmd {
    uint16_t op, pad;
    uint32_t seq;
    uint32_t a, b, c, d;
    uint64_t x, y;
    zr_addr addr;
    uint32_t tail;
} zr_cmd;

_Static_assert(sizeof(zr_cmd) == 64, "one cache line");

/* op, a, b, c, d, x, y, addr, help.  Append only: the position is the code. */
#define ZR_CMD_LIST(X)                                                                                                 \
    X(nop, _, _, _, _, _, _, _, "answered at once: a ping")                                                            \
    X(session_add, session, index, peer_index, lanes, rate_mhz, mtu, agent,                                            \
      "a peer: our and its 26-bit index, its worker count (+ 256: under the keys told by session_secret, else in "     \
      "plaintext), heartbeats per 1000 s, KCP mtu, its agent's address")                                               \
    X(session_drop, session, _, _, _, _, _, _, "forget the peer and close its conversations; their subs go too")       \
    X(stream_open, stream, local, from, feed, epoch, number, _,                                                        \
      "local 1: numbers are given here, starting at number; 2: a mirror, from = its owner's worker | slot << 8; feed") \
    X(stream_track, stream, track, format, clock_rate, ssrc, _, _,                                                     \
      "format = kind (0 audio, 1 video, 2 data) | codec << 8 | payload type << 16; ssrc 0: learned")                   \
    X(stream_epoch, stream, local, from, feed, epoch, number, _,                                                       \
      "a higher epoch: all but local subs start anew, children and mirrors are removed; fields as in stream_open")     \
    X(stream_close, stream, _, _, _, _, _, _, "drop the stream, its subs, its conversations; unbind its ingress")      \
    X(ingress_bind, ingress, stream, learn, _, _, _, _, "RTP of this ingress socket belongs to the stream")            \
    X(ingress_source, ingress, _, _, _, _, _, source, "one more address that may send here")                           \
    X(ingress_close, ingress, _, _, _, _, _, _, "unbind and close the socket")                                         \
    X(sub_add, sub, stream, tracks, layers, _, _, to,                                                                  \
      "RTP subscriber: bit mask of tracks, layers = spatial | temporal << 8 (255: all), default address")              \
    X(sub_addr, sub, track, _, _, _, _, to, "address of one track")                                                    \
    X(sub_drop, sub, _, _, _, _, _, _, "RTP subscriber or child: gone; a child's conversation is closed")              \
    X(child_add, sub, stream, session, conv, lane_want, from, _,                                                       \
      "child relay: lane | want << 8 (0 all, 1 warm); from = number + 1 to resume after, 0: cache, 2^33: now; "        \
      "done.x = next")                                                                                                 \
    X(child_want, sub, want, _, _, _, _, _, "0 all, 1 warm (audio and key frames)")                                    \
    X(pull_start, stream, session, conv, lane, _, _, _, "open the conversation a parent will send on; lane or 255")    \
    X(pull_stop, session, conv, _, _, _, _, _, "close it")                                                             \
    X(keyframe, stream, track, _, _, _, _, _, "somebody below wants a key frame")                                      \
    X(reset, _, _, _, _, _, _, _, "forget everything: a new agent starts")                                             \
    X(stop, _, _, _, _, _, _, _, "leave the loop after this turn")                                                     \
    X(session_rtt, session, rtt_us, _, _, _, _, _, "round trip to the peer as the agent measures it")                  \
    X(mirror_add, stream, target, slot, feed, whole, _, _,                                                             \
      "its packets go to this stream slot of another worker, too, from the latest cached key frame on; whole 1: all "  \
      "that are cached")                                                                                               \
    X(mirror_drop, stream, target, _, _, _, _, _, "and no more")                                                       \
    X(peer_up, peer, _, _, _, _, _, _, "another worker of this relay is a new process: its ring is read again")        \
    X(session_secret, session, part, cipher, age_ms, low, high, _,                                                     \
      "16 bytes of the keys of the session_add or session_rekey that follows: parts 0, 1 to send, 2, 3 to receive; "   \
      "cipher + 256: may be sent under at once; the record is wiped once it is executed")                              \
    X(session_rekey, session, index, peer_index, _, _, _, _, "one more generation of keys, with its indices")          \
    X(session_mtu, session, mtu, _, _, _, _, _, "KCP mtu that the path takes now, at most session_add's")              \
    X(session_kick, session, _, _, _, _, _, _, "the peer is heard again: its conversations try at once")               \
    X(session_heard, session, _, _, _, _, _, _,                                                                        \
      "done.x = ns since anything of the session was heard here; 2^63: never")                                         \
    X(session_rate, session, _, _, _, bps, _, _, "most it may be sent from this worker, bits a second; 0: no bound")   \
    X(session_path, session, number, _, _, _, _, agent,                                                                \
      "one more address its agent is listed at, and may send from; number 0 begins the list anew")                     \
    X(session_addr, session, _, _, _, _, _, agent, "its datagrams go there from now on")

/* Worker -> control plane. */
#define ZR_EVT_LIST(X)                                                                                                 \
    X(done, rc, _, _, _, value, _, _, "answer to the command with this seq; rc is 0 or -(zr_err)")                     \
    X(keyframe, stream, track, _, _, _, _, _, "a pulled stream needs a key frame from its parent (merged)")            \
    X(conv_unknown, session, conv, _, _, _, _, _, "segments of a conversation not open here, <= 1/100 ms")             \
    X(stream_live, stream, _, _, _, first_ns, number, _, "first packet of this epoch was accepted")                    \
    X(source_locked, ingress, track, ssrc, _, _, _, source, "learned: this track is sent from here")                   \
    X(source_lost, ingress, track, _, _, _, _, _, "2 s of silence: the lock is released")                              \
    X(ingress_lost, ingress, _, _, _, _, _, _, "its socket could not be taken: no file descriptor left")               \
    X(overload, level, _, _, _, _, _, _, "this worker's level, 0 to 4, has changed")                                   \
    X(child_stuck, sub, stream, _, _, _, _, _, "this child has acknowledged nothing for 30 s")                         \
    X(rekey, session, why, _, _, _, _, _,                                                                              \
      "it wants new keys: 1 soon, 2 nothing is sent any more (age or count), 3 nothing is taken any more")             \
    X(violations, session, count, _, _, _, _, _, "its datagrams broke the rules of KCP so often since the last time")

enum zr_cmd_op {
#define X(op, a, b, c, d, x, y, addr, help) ZR_CMD_##op,
    ZR_CMD_LIST(X)
#undef X
        ZR_CMD_COUNT
};

enum zr_evt_op {
#define X(op, a, b, c, d, x, y, addr, help) ZR_EVT_##op,
    ZR_EVT_LIST(X)
#undef X
        ZR_EVT_COUNT
};

typedef struct zr_cmd_info {
    const char *op, *fields[7], *help;
} zr_cmd_info;
extern const zr_cmd_info zr_cmd_infos[ZR_CMD_COUNT];
extern const zr_cmd_info zr_evt_infos[ZR_EVT_COUNT];

#endif
