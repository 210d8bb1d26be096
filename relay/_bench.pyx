# cython: language_level=3
"""What `zrelay bench link` drives: links that count, the tally of packets, and our two kinds of ends. _bench.pyi says
what each call means.

Times are int nanoseconds of whatever clock the caller keeps; addresses struct zr_addr as 20 bytes.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport INT64_MAX, UINT32_MAX
from libc.string cimport memcpy, memset

from relay._core cimport (
    ZR_E_again, ZR_E_full, ZR_E_inval, ZR_OK, zr_addr, zr_batch, zr_batch_bytes, zr_batch_init, zr_batch_reset,
    zr_lane_conf, zr_ns_t, zr_session_conf, zr_shm_unmap, zr_simlink, zr_simlink_bytes, zr_simlink_conf,
    zr_simlink_counted, zr_simlink_counts, zr_simlink_deadline, zr_simlink_get, zr_simlink_init, zr_simlink_put,
    zr_stat_bytes, zr_stat_init, zr_stat_page,
)

import array

from relay._core import DROPS, STATS  # and binds the errors
from relay.errors import error_for

cdef enum:
    RTP_HEAD = 12
    PKTS = 16384
    BATCH = 512
    ENTRY_BYTES = 1536
    WINDOW = 1024
    BLOCKS = 128
    MTU = 1420
    CROSS = 1  # tag of a datagram that is not ours
    CONV = 0x2A2A2A2A
    INDEX = 0x0ABC000
    SLOT = 0
    LANE = 0
    HEARTBEATS_MHZ = 4000  # as relays ask of each other by default

NEVER = INT64_MAX
cdef uint64_t SECOND = 1000000000


cdef int check(int rc) except -1:
    if rc >= 0:
        return rc
    raise error_for(rc)


cdef inline const uint8_t *data_of(bytes data) noexcept:
    return <const uint8_t *>PyBytes_AS_STRING(data)


@cython.final
@cython.internal
cdef class Memory:
    """Zeroed pages for as long as their owner lives."""

    cdef void *at
    cdef size_t size

    def __dealloc__(self):
        zr_shm_unmap(self.at, self.size)


cdef Memory memory(size_t size):
    cdef Memory made = Memory.__new__(Memory)
    if size == 0:
        raise error_for(ZR_E_inval, "a size is out of range")
    made.at = zr_memory_open(size)
    if made.at is NULL:
        raise MemoryError(f"{size} bytes")
    made.size = size
    return made


@cython.final
cdef class Path:
    cdef Memory mem
    cdef zr_simlink *link
    cdef zr_ns_t start, dark_from, dark_until
    cdef readonly uint64_t put_datagrams, put_bytes, dark
    cdef uint64_t[::1] seconds

    def __cinit__(self, zr_ns_t start, uint32_t seconds, *, zr_ns_t delay_ns=0, double loss=0.0, double burst=0.0,
                  uint64_t rate_bps=0, uint32_t queue_bytes=0, uint32_t packets_max=4096, uint64_t seed=0,
                  zr_ns_t dark_from=INT64_MAX, zr_ns_t dark_until=INT64_MAX):
        cdef zr_simlink_conf conf
        memset(&conf, 0, sizeof(conf))
        conf.delay, conf.loss, conf.burst, conf.seed = delay_ns, loss, burst, seed
        conf.rate_bps, conf.queue_bytes, conf.packets_max = rate_bps, queue_bytes, packets_max
        self.start, self.dark_from, self.dark_until = start, dark_from, dark_until
        self.seconds = array.array("Q", bytes(8 * seconds))
        self.mem = memory(zr_simlink_bytes(&conf))
        self.link = <zr_simlink *>self.mem.at
        check(zr_simlink_init(self.link, &conf))

    cdef int carry(self, const uint8_t *data, size_t size, zr_ns_t now) except -1:
        cdef uint64_t second = <uint64_t>(now - self.start) // SECOND
        self.put_datagrams += 1
        self.put_bytes += size
        if second < <uint64_t>self.seconds.shape[0]:
            self.seconds[second] += size
        if self.dark_from <= now < self.dark_until:
            self.dark += 1
            return 0
        return check(zr_simlink_put(self.link, data, size, 0, now))

    cdef int take(self, const uint8_t **data, zr_ns_t now) except -1:
        """Length of the next datagram due, 0 when none is."""
        cdef uint64_t tag = CROSS
        cdef int size = 0
        while tag == CROSS:
            size = zr_simlink_get(self.link, data, &tag, now)
            if size == ZR_E_again:
                return 0
            check(size)
        return size

    def put(self, bytes data not None, zr_ns_t now):
        self.carry(data_of(data), len(data), now)

    def get(self, zr_ns_t now):
        cdef const uint8_t *data = NULL
        cdef int size = self.take(&data, now)
        return PyBytes_FromStringAndSize(<const char *>data, size) if size > 0 else None

    def cross(self, bytes data not None, zr_ns_t now):
        if not self.dark_from <= now < self.dark_until:
            check(zr_simlink_put(self.link, data_of(data), len(data), CROSS, now))

    def deadline(self):
        return zr_simlink_deadline(self.link)

    def by_second(self):
        return list(self.seconds)

    def counts(self):
        cdef const zr_simlink_counts *c = zr_simlink_counted(self.link)
        return {"lost": c.lost, "queue_dropped": c.queue_dropped, "overflow": c.overflow, "dark": self.dark}


@cython.final
cdef class Tally:
    cdef readonly uint32_t packets, sent, delivered, late, duplicates, foreign
    cdef readonly uint32_t size, frame
    cdef zr_ns_t deadline
    cdef int64_t[::1] sent_at
    cdef uint32_t[::1] delay_us

    def __cinit__(self, uint32_t packets, *, uint32_t size, uint32_t frame, zr_ns_t deadline_ns):
        if not 0 < deadline_ns < 1000 * <zr_ns_t>SECOND:
            raise ValueError(f"deadline: up to 1000 s, not {deadline_ns} ns")
        self.packets, self.size, self.frame, self.deadline = packets, size, frame, deadline_ns
        self.sent_at = array.array("q", bytes(8 * packets))
        self.delay_us = array.array("I", b"\xff" * (4 * packets))

    cdef int64_t leave(self, zr_ns_t now) except -1:
        if self.sent == self.packets:
            raise ValueError("more packets than were announced")
        self.sent_at[self.sent] = now
        self.sent += 1
        return self.sent - 1

    cdef int arrive(self, uint32_t number, bint old, zr_ns_t now) except -1:
        """`old`: the receiver's own clock puts it behind the deadline."""
        cdef zr_ns_t delay
        if number >= self.sent:
            self.foreign += 1
            return 0
        if self.delay_us[number] != UINT32_MAX:
            self.duplicates += 1
            return 0
        delay = now - self.sent_at[number]
        if old and delay <= self.deadline:
            delay = self.deadline + 1000
        self.delay_us[number] = <uint32_t>min(delay // 1000, <zr_ns_t>UINT32_MAX - 1)
        if delay // 1000 > self.deadline // 1000:
            self.late += 1
        else:
            self.delivered += 1

    def leaves(self, zr_ns_t now):
        return self.leave(now)

    def arrives(self, uint32_t number, zr_ns_t now):
        self.arrive(number, False, now)

    def delays_us(self):
        cdef int64_t deadline_us = self.deadline // 1000
        return array.array("I", [us for us in self.delay_us[:self.sent] if us <= deadline_us])

    def by_second(self, zr_ns_t start, uint32_t seconds):
        cdef list rows = [[0, 0] for _ in range(seconds)]
        cdef int64_t deadline_us = self.deadline // 1000
        cdef uint32_t i
        for i in range(self.sent):
            row = rows[min((self.sent_at[i] - start) // <int64_t>SECOND, seconds - 1)]
            row[0] += 1
            if self.delay_us[i] > deadline_us:
                row[1] += 1
        return [(row[0], row[1]) for row in rows]

    def first_after(self, zr_ns_t at):
        cdef int64_t best = INT64_MAX
        cdef uint32_t i
        for i in range(self.sent):
            if self.sent_at[i] >= at and self.delay_us[i] != UINT32_MAX:
                best = min(best, self.sent_at[i] + <int64_t>self.delay_us[i] * 1000)
        return None if best == INT64_MAX else best


cdef zr_pkt *packet_of(zr_pool *pool, uint32_t number, uint32_t size) noexcept:
    """An RTP packet whose sequence number and timestamp tell its number; NULL when the pool is empty."""
    cdef zr_pkt *pkt = zr_pool_take(pool)
    cdef uint8_t *rtp
    if pkt is NULL:
        return NULL
    pkt.len = <uint16_t>size
    rtp = pkt.buf + pkt.off
    rtp[0], rtp[1], rtp[2], rtp[3] = 0x80, 96, <uint8_t>(number >> 8), <uint8_t>number
    rtp[4], rtp[5] = <uint8_t>(number >> 24), <uint8_t>(number >> 16)
    rtp[6], rtp[7] = <uint8_t>(number >> 8), <uint8_t>number
    rtp[8], rtp[9], rtp[10], rtp[11] = 0, 0, 0, 1
    return pkt


cdef void head_of(uint8_t *to, uint32_t number, uint32_t frame, zr_ns_t now) noexcept:
    cdef zr_media media
    memset(&media, 0, sizeof(media))
    media.number = number
    media.hop_us = <uint32_t>(<uint64_t>now // 1000)
    if number % frame == 0:
        media.flags |= ZR_MEDIA_FRAME_START
    if number % frame == frame - 1:
        media.flags |= ZR_MEDIA_FRAME_END
    zr_media_put(to, &media)


cdef bint message_of(zr_media *media, const zr_slice *views, int count, uint32_t size) noexcept:
    """Parses a message and compares it with what was sent."""
    cdef const uint8_t *data = zr_slice_data(&views[0])
    cdef uint32_t length = views[0].len + (views[1].len if count > 1 else 0)
    cdef const uint8_t *rtp = data + ZR_MEDIA_HEAD
    if views[0].len < ZR_MEDIA_HEAD + RTP_HEAD or zr_media_parse(media, data, views[0].len) != ZR_OK:
        return False
    return length == ZR_MEDIA_HEAD + size and media.number == (
        <uint32_t>rtp[4] << 24 | <uint32_t>rtp[5] << 16 | <uint32_t>rtp[6] << 8 | rtp[7])


cdef class End:
    """What both ends of ours share: a pool, a batch, the tally."""

    cdef Memory pool_mem, batch_mem
    cdef zr_pool pool
    cdef zr_batch batch
    cdef Tally tally
    cdef uint64_t refused, broken

    cdef int equip(self, Tally tally) except -1:
        self.tally = tally
        self.pool_mem = memory(zr_pool_bytes(PKTS))
        check(zr_pool_init(&self.pool, self.pool_mem.at, PKTS))
        self.batch_mem = memory(zr_batch_bytes(BATCH, BATCH * ENTRY_BYTES))
        return check(zr_batch_init(&self.batch, self.batch_mem.at, BATCH, BATCH * ENTRY_BYTES))

    cdef int submit(self, const uint8_t *head, const zr_slice *body, zr_ns_t now) except? -1:
        raise NotImplementedError

    cdef int accept(self, const uint8_t *data, size_t size, zr_ns_t now) except? -1:
        raise NotImplementedError

    cdef int fill(self, zr_ns_t now) except? -1:
        """Appends what is due to the batch: 0, or ZR_E_full when there is more."""
        raise NotImplementedError

    cdef int drain(self, zr_ns_t now) except -1:
        """Hands complete messages to the tally."""
        raise NotImplementedError

    cdef bint too_old(self, const zr_media *media, zr_ns_t now) noexcept:
        """By the receiver's own estimate."""
        return False

    cdef int arrived(self, const zr_slice *views, int count, zr_ns_t now) except -1:
        cdef zr_media media
        cdef int i
        if message_of(&media, views, count, self.tally.size):
            self.tally.arrive(media.number, self.too_old(&media, now), now)
        else:
            self.broken += 1
        for i in range(count):
            zr_pkt_drop(views[i].pkt)
        return 0

    def send(self, uint32_t count, zr_ns_t now):
        cdef uint8_t head[16]
        cdef zr_slice body
        cdef zr_pkt *pkt
        cdef uint32_t number
        for _ in range(count):
            number = <uint32_t>self.tally.leave(now)
            pkt = packet_of(&self.pool, number, self.tally.size)
            if pkt is NULL:
                self.refused += 1
                continue
            head_of(head, number, self.tally.frame, now)
            body.pkt, body.off, body.len = pkt, pkt.off, pkt.len
            if self.submit(head, &body, now) < 0:
                self.refused += 1
            zr_pkt_drop(pkt)

    def input(self, bytes data not None, zr_ns_t now):
        self.accept(data_of(data), len(data), now)

    def receive(self, zr_ns_t now):
        self.drain(now)

    def output(self, zr_ns_t now):
        cdef list made = []
        cdef int rc = ZR_E_full
        while rc == ZR_E_full:
            rc = self.fill(now)
            made += [PyBytes_FromStringAndSize(<const char *>self.batch.tx[i].data, self.batch.tx[i].len)
                     for i in range(self.batch.count)]
            zr_batch_reset(&self.batch)
        check(rc)
        return made

    def turn(self, Path inbound not None, Path outbound not None, uint32_t count, zr_ns_t now):
        cdef const uint8_t *data = NULL
        cdef int size, rc = ZR_E_full
        cdef uint32_t i
        while (size := inbound.take(&data, now)) > 0:
            self.accept(data, size, now)
        self.drain(now)
        self.on_deadline(now)
        if count > 0:
            self.send(count, now)
        while rc == ZR_E_full:
            rc = self.fill(now)
            for i in range(self.batch.count):
                outbound.carry(self.batch.tx[i].data, self.batch.tx[i].len, now)
            zr_batch_reset(&self.batch)
        check(rc)


@cython.final
@cython.no_gc_clear  # __dealloc__ still needs the memory
cdef class LaneEnd(End):
    cdef Memory page_mem, lane_mem
    cdef zr_stat_page *page
    cdef zr_lane *lane
    cdef zr_addr peer
    cdef zr_hop hop
    cdef uint32_t conv, srtt_us
    cdef uint64_t old

    def __cinit__(self, Tally tally not None, uint32_t number, bytes peer_agent not None, bytes peer not None,
                  zr_ns_t now, *, uint16_t deadline_ms=0, double residual=0, double max_overhead=0):
        cdef zr_lane_conf conf
        cdef zr_session_conf session
        if number > 1 or PyBytes_GET_SIZE(peer) != sizeof(zr_addr) or PyBytes_GET_SIZE(peer_agent) != sizeof(zr_addr):
            raise ValueError("LaneEnd: number 0 or 1, addresses of 20 bytes")
        self.equip(tally)
        memcpy(&self.peer, PyBytes_AS_STRING(peer), sizeof(self.peer))
        self.page_mem = memory(zr_stat_bytes(1))
        self.page = <zr_stat_page *>self.page_mem.at
        check(zr_stat_init(self.page, 1))
        memset(&conf, 0, sizeof(conf))
        conf.lane, conf.sessions_max, conf.convs_max, conf.peer_lanes_max = LANE, 1, 4, 4
        conf.blocks_max, conf.window = BLOCKS, WINDOW
        conf.deadline_ms, conf.residual, conf.max_overhead = deadline_ms, residual, max_overhead
        self.lane_mem = memory(zr_lane_bytes(&conf))
        self.lane = zr_lane_init(self.lane_mem.at, &conf, &self.pool, self.page, now)
        if self.lane is NULL:
            raise error_for(ZR_E_inval, "LaneEnd")
        memset(&session, 0, sizeof(session))
        session.index, session.peer_index = INDEX + number, INDEX + 1 - number
        session.lanes, session.mtu, session.rate_mhz = 1, MTU, HEARTBEATS_MHZ
        memcpy(&session.agent, PyBytes_AS_STRING(peer_agent), sizeof(session.agent))
        check(zr_lane_session_add(self.lane, SLOT, &session, now))
        self.conv = check(zr_lane_conv_open(self.lane, SLOT, CONV, LANE, ZR_CONV_MEDIA, 0, now))

    def __dealloc__(self):
        if self.lane is not NULL:
            zr_lane_fini(self.lane)

    cdef int submit(self, const uint8_t *head, const zr_slice *body, zr_ns_t now) except? -1:
        return zr_lane_send(self.lane, self.conv, head, ZR_MEDIA_HEAD, body, now)

    cdef int accept(self, const uint8_t *data, size_t size, zr_ns_t now) except? -1:
        cdef zr_pkt *pkt = zr_pool_copy(&self.pool, data, size)
        if pkt is NULL:
            return 0
        zr_stat_add(self.page, ZR_STAT_rx_link, 1)
        return zr_lane_input(self.lane, pkt, &self.peer, now)

    cdef int fill(self, zr_ns_t now) except? -1:
        return zr_lane_output(self.lane, &self.batch, now)

    cdef int drain(self, zr_ns_t now) except -1:
        cdef zr_lane_msg msg
        while zr_lane_recv(self.lane, &msg) == ZR_OK:
            self.srtt_us = msg.srtt_us
            self.arrived(msg.views, msg.view_count, now)
        return 0

    cdef bint too_old(self, const zr_media *media, zr_ns_t now) noexcept:
        cdef bint old = zr_hop_delay_us(&self.hop, media.hop_us, self.srtt_us, now) > self.tally.deadline // 1000
        self.old += old
        return old

    def on_deadline(self, zr_ns_t now):
        zr_lane_on_deadline(self.lane, now)

    def deadline(self):
        return zr_lane_deadline(self.lane)

    def check(self):
        return zr_lane_check(self.lane)

    def counts(self):
        counted = {row[0]: self.page.stat[i] for i, row in enumerate(STATS) if self.page.stat[i] > 0 and row[1] == "c"}
        dropped = {row[0]: self.page.drop[i] for i, row in enumerate(DROPS) if self.page.drop[i] > 0}
        return {**counted, "refused": self.refused, "broken": self.broken, "old": self.old, "held": self.pool.in_use,
                "drops": dropped}


@cython.final
@cython.no_gc_clear  # __dealloc__ still needs the memory
cdef class KcpEnd(End):
    cdef Memory blocks_mem
    cdef zr_kcp_blocks blocks
    cdef zr_kcp kcp
    cdef zr_addr nowhere
    cdef bint ready

    def __cinit__(self, Tally tally not None, zr_ns_t now):
        cdef zr_kcp_conf conf = zr_kcp_conf_compat(CONV)
        conf.mtu, conf.snd_wnd, conf.rcv_wnd = MTU, WINDOW, WINDOW
        self.equip(tally)
        self.blocks_mem = memory(zr_kcp_blocks_bytes(BLOCKS))
        check(zr_kcp_blocks_init(&self.blocks, self.blocks_mem.at, BLOCKS))
        check(zr_kcp_init(&self.kcp, &conf, &self.blocks, &self.pool, now))
        self.ready = True

    def __dealloc__(self):
        if self.ready:
            zr_kcp_fini(&self.kcp)

    cdef int submit(self, const uint8_t *head, const zr_slice *body, zr_ns_t now) except? -1:
        cdef int rc = zr_kcp_send(&self.kcp, head, ZR_MEDIA_HEAD, body, now)
        zr_kcp_flush(&self.kcp)
        return rc

    cdef int accept(self, const uint8_t *data, size_t size, zr_ns_t now) except? -1:
        cdef zr_pkt *pkt = zr_pool_copy(&self.pool, data, size)
        cdef zr_seg seg
        cdef size_t pos = 0
        cdef int drop = 0
        if pkt is NULL:
            return 0
        while zr_seg_next(&seg, zr_pkt_data(pkt), pkt.len, &pos) == ZR_OK:
            if zr_kcp_judge(&self.kcp, &seg, &drop) == ZR_OK:
                zr_kcp_input_seg(&self.kcp, &seg, pkt, now)
        zr_kcp_input_end(&self.kcp, now)
        zr_kcp_flush(&self.kcp)
        zr_pkt_drop(pkt)
        return 0

    cdef int fill(self, zr_ns_t now) except? -1:
        cdef zr_pack pack
        cdef int rc
        zr_pack_begin(&pack, &self.batch, &self.nowhere, 0, MTU, 0, 0, False)
        rc = zr_kcp_output(&self.kcp, &pack, now)
        zr_pack_finish(&pack)
        return rc

    cdef int drain(self, zr_ns_t now) except -1:
        cdef zr_slice views[2]
        cdef int count
        while (count := zr_kcp_recv(&self.kcp, views, 2)) > 0:
            self.arrived(views, count, now)
        return 0

    def on_deadline(self, zr_ns_t now):
        if zr_kcp_deadline(&self.kcp) <= now:
            zr_kcp_on_deadline(&self.kcp, now)

    def deadline(self):
        return zr_kcp_deadline(&self.kcp)

    def counts(self):
        cdef const zr_kcp_counts *c = zr_kcp_counted(&self.kcp)
        return {"kcp_segs_sent": c.segs_sent, "kcp_retrans_timeout": c.retrans_timeout,
                "kcp_retrans_fast": c.retrans_fast, "kcp_segs_received": c.segs_received,
                "kcp_duplicates": c.duplicates, "kcp_acks_sent": c.acks_sent, "kcp_window_drops": c.window_drops,
                "refused": self.refused, "broken": self.broken, "held": self.pool.in_use}
