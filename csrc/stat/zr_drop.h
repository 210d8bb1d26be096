/*
 * zr_drop.h - one list of reasons for not forwarding, and the ledgers they belong to.
 *
 * Conservation, exact at every turn's end (zr_ledger_check):
 *
 *   link    datagrams on a lane's socket           rx_link    = link_accepted  + sum of link drops
 *   media   RTP, RTCP and media messages received  rx_media   = media_accepted + sum of media drops
 *   fan     (accepted packet, subscriber) pairs    fan_due    = fan_sent       + sum of fan drops
 *   egress  datagrams handed to a socket           tx_due     = tx_sent        + sum of egress drops + tx_waiting
 *
 * `word` is the label value of the metric; a word may appear in several ledgers. Violations are words of `link`.
 */
#ifndef ZR_DROP_H
#define ZR_DROP_H

enum zr_ledger { ZR_LEDGER_link, ZR_LEDGER_media, ZR_LEDGER_fan, ZR_LEDGER_egress, ZR_LEDGER_COUNT };

/* id, ledger, word, help.  Append only: the position is the ABI. */
#define ZR_DROP_LIST(X)                                                                                                \
    X(short, link, "short", "shorter than the envelope")                                                               \
    X(type, link, "type", "first byte is no type of ours")                                                             \
    X(version, link, "version", "first byte is a later version's (0x0C-0x0F)")                                         \
    X(lane, link, "lane", "receiver or sending lane is not right for this socket")                                     \
    X(noindex, link, "noindex", "no session has this receiver index")                                                  \
    X(src, link, "src", "does not come from the session's address")                                                    \
    X(auth, link, "auth", "the tag does not verify")                                                                   \
    X(replay, link, "replay", "counter seen before")                                                                   \
    X(old, link, "old", "counter older than the replay window")                                                        \
    X(link_oversize, link, "oversize", "datagram longer than a pool slot or truncated")                                \
    X(link_pool, link, "pool", "no packet left in the pool")                                                           \
    X(kcp_short, link, "kcp_short", "violation: less than a segment header")                                           \
    X(kcp_cmd, link, "kcp_cmd", "violation: unknown segment command")                                                  \
    X(kcp_len, link, "kcp_len", "violation: segment length is wrong")                                                  \
    X(kcp_trail, link, "kcp_trail", "violation: bytes after the last segment")                                         \
    X(kcp_una, link, "kcp_una", "violation: una acknowledges what was never sent")                                     \
    X(kcp_ack, link, "kcp_ack", "violation: ACK for a segment that was never sent")                                    \
    X(kcp_frg, link, "kcp_frg", "violation: fragment count beyond the conversation's limit")                           \
    X(length, link, "length", "hello or answer of an impossible length")                                               \
    X(msg, link, "msg", "violation: not a control message")                                                            \
    X(unknown_peer, link, "unknown_peer", "hello from a relay or address that is not listed")                          \
    X(self, link, "self", "our own hello reflected")                                                                   \
    X(ratelimit, link, "ratelimit", "more hellos, or new lanes of a session, than the limit")                          \
    X(oversize, media, "oversize", "RTP packet longer than 1 500 bytes")                                               \
    X(pool, media, "pool", "no packet left in the pool")                                                               \
    X(stream, media, "stream", "nobody publishes here: unknown conversation, ingress or stream")                       \
    X(track, media, "track", "track index or payload type is not in the stream's list")                                \
    X(ttl, media, "ttl", "more than 8 hops")                                                                           \
    X(late, media, "late", "media number older than the window")                                                       \
    X(duplicate, media, "duplicate", "media number seen before")                                                       \
    X(source, media, "source", "not from the ingress's source address")                                                \
    X(rtp_short, media, "rtp_short", "RTP shorter than its fixed header")                                              \
    X(rtp_version, media, "rtp_version", "RTP version is not 2")                                                       \
    X(rtp_csrc, media, "rtp_csrc", "RTP CSRC list beyond the end")                                                     \
    X(rtp_ext, media, "rtp_ext", "RTP extension beyond the end")                                                       \
    X(rtp_pad, media, "rtp_pad", "RTP padding longer than the payload")                                                \
    X(rtcp_bad, media, "rtcp_bad", "RTCP that does not parse")                                                         \
    X(rtcp_ssrc, media, "rtcp_ssrc", "RTCP of an SSRC that no track has")                                              \
    X(rtcp_source, media, "rtcp_source", "RTCP from an address that is neither publisher nor subscriber")              \
    X(media_short, media, "media_short", "media message shorter than its header")                                      \
    X(filtered, fan, "filtered", "the subscriber does not want this track or layer")                                   \
    X(window, fan, "window", "the child's KCP send window and queue are full")                                         \
    X(noaddress, fan, "noaddress", "the subscriber has no address for this track")                                     \
    X(tx_again, egress, "again", "socket buffer full, nobody waits for it")                                            \
    X(tx_refused, egress, "refused", "the kernel refused this destination")                                            \
    X(tx_oversize, egress, "oversize", "longer than the path takes (EMSGSIZE)")                                        \
    X(tx_error, egress, "error", "any other send error")                                                               \
    X(gone, fan, "gone", "the subscriber or its stream went away before its packets left")                             \
    X(deadline, media, "deadline", "took longer over its last hop than its class may")                                 \
    X(tx_nobufs, egress, "nobufs", "the kernel had no memory for it (ENOBUFS, ENOMEM)")                                \
    X(tx_skipped, egress, "local_unreachable", "its destination was unreachable a moment ago")                         \
    X(shed, media, "shed", "too much for this worker: its level leaves out this class")                                \
    X(dependant, media, "dependant", "depends on a frame that was shed; until the track's next key frame")             \
    X(fan_shed, fan, "shed", "waited too long, or too much waits here: by class, whole frames")                        \
    X(fan_dependant, fan, "dependant", "depends on a frame that was shed here; until the track's next key frame")      \
    X(queue, fan, "queue", "the ring to the subscribers' worker was full")                                             \
    X(record, media, "record", "record of another worker that cannot be true")                                         \
    X(link_died, link, "died", "in a worker when it died")                                                             \
    X(media_died, media, "died", "in a worker when it died")                                                           \
    X(fan_died, fan, "died", "in a worker when it died")                                                               \
    X(tx_died, egress, "died", "in a worker when it died")                                                             \
    X(rights, link, "rights", "violation: announces a stream outside its rights")                                      \
    X(closed, link, "closed", "from a peer whose link is closed for violations")                                       \
    X(expired, link, "expired", "under keys whose time is over")                                                       \
    X(limit, link, "limit", "the last number of a counter: the peer lane's keys are used up")                          \
    X(mac1, link, "mac1", "handshake message whose MAC1 is wrong: a stranger's")                                       \
    X(mac2, link, "mac2", "handshake message without a cookie for its address, while we ask for one")                  \
    X(cookie, link, "cookie", "cookie reply that answers nothing we sent")                                             \
    X(probe, link, "probe", "answer to a probe that was never sent, or not then")                                      \
    X(report, link, "report", "violation: a report with a value that cannot be, or about its own sender")              \
    X(dh, link, "dh", "handshake with a point of low order")                                                           \
    X(stamp, link, "stamp", "initiation replayed, or of a clock that went back")

enum zr_drop_id {
#define X(id, ledger, word, help) ZR_DROP_##id,
    ZR_DROP_LIST(X)
#undef X
        ZR_DROP_COUNT
};

#endif
