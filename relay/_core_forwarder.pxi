# Part of _core.pyx: a worker's data plane without its sockets and without its clock, and what both read.

OVERLOAD_ENTER = (0.75, 0.85, 0.93, 0.98)


cdef int set_deadlines(zr_fwd_conf *conf, tuple deadlines_ms) except -1:
    if len(deadlines_ms) != ZR_DEADLINES:
        raise ValueError(f"deadlines_ms: {ZR_DEADLINES} of them, not {len(deadlines_ms)}")
    for i in range(ZR_DEADLINES):
        conf.deadline_ms[i] = deadlines_ms[i]


cdef int set_overload(zr_fwd_conf *conf, tuple enter) except -1:
    if len(enter) != 4:
        raise ValueError(f"overload_enter: 4 of them, not {len(enter)}")
    for i in range(4):
        conf.overload_enter[i + 1] = <uint16_t>round(1000 * <double>enter[i])


@cython.final
cdef class Forwarder(Counters):
    cdef Region mem, chan_mem, batch_mem
    cdef zr_chan chan
    cdef zr_fwd *fwd
    cdef zr_batch batch
    cdef bint in_turn
    cdef list inboxes

    def __cinit__(self, uint8_t lane, zr_ns_t now, *, uint32_t streams_max=64, uint32_t pkts_max=4096,
                  uint32_t subs_max=0, uint32_t ingress_max=0, uint32_t sessions_max=0, uint32_t convs_max=0,
                  uint32_t peer_lanes_max=0, uint32_t blocks_max=0, uint32_t window=0, uint32_t cache_max=0,
                  uint16_t epoch=0, uint32_t chan_slots=4096, uint32_t batch_entries=256,
                  tuple deadlines_ms=(400, 400, 400), double residual=0, double max_overhead=0,
                  tuple overload_enter=OVERLOAD_ENTER, list inboxes=None):
        cdef zr_fwd_conf conf = zr_fwd_conf_default(lane, streams_max)
        set_deadlines(&conf, deadlines_ms)
        set_overload(&conf, overload_enter)
        conf.lane.residual, conf.lane.max_overhead = residual, max_overhead
        conf.lane.epoch = epoch
        self.inboxes = inboxes or []
        conf.workers = len(self.inboxes)
        conf.pkts_max = pkts_max
        conf.cache_max = cache_max or min(conf.cache_max, pkts_max // 2)
        conf.subs_max = subs_max or conf.subs_max
        conf.ingress_max = ingress_max or conf.ingress_max
        conf.lane.sessions_max = sessions_max or conf.lane.sessions_max
        conf.lane.convs_max = convs_max or conf.lane.convs_max
        conf.lane.peer_lanes_max = peer_lanes_max or conf.lane.peer_lanes_max
        conf.lane.blocks_max = blocks_max or conf.lane.blocks_max
        conf.lane.window = window or conf.lane.window
        self.own_page(streams_max)
        self.chan_mem = private(Channel.bytes_for(chan_slots))
        check(zr_chan_init(&self.chan, <zr_chan_mem *>self.chan_mem.at, chan_slots, ZR_RECORD_BYTES))
        self.batch_mem = private(zr_batch_bytes(batch_entries, batch_entries * 1536))
        check(zr_batch_init(&self.batch, self.batch_mem.at, batch_entries, batch_entries * 1536))
        self.mem = private(zr_fwd_bytes(&conf))
        self.fwd = zr_fwd_init(self.mem.at, &conf, self.page, &self.chan, now)
        if self.fwd is NULL:
            raise error_for(ZR_E_inval, "Forwarder")
        for i, inbox in enumerate(self.inboxes):
            check(zr_fwd_meet(self.fwd, i, &(<Inbox?>inbox).inbox))

    def command(self, bytes record not None):
        if not put_record(&self.chan, record):
            raise error_for(ZR_E_full, "command ring")

    def events(self):
        return take_records(&self.chan, 1 << 20)

    cdef int begin(self, zr_ns_t now) except -1:
        """As in a worker's turn, commands come before the turn's first input."""
        if not self.in_turn:
            while zr_fwd_commands(self.fwd, 256, now) == 256:
                pass
        self.in_turn = True

    cdef bint ingest(self, uint32_t sock, bytes data, bytes addr, zr_ns_t now) except -1:
        cdef zr_addr source = addr_of(addr)
        self.begin(now)
        return zr_ingest(self.fwd, self.page, sock, data_of(data), len(data), False, &source, now, now) == ZR_OK

    def link_input(self, bytes data not None, bytes addr not None, zr_ns_t now):
        return self.ingest(ZR_SOCK_LINK, data, addr, now)

    def ingress_input(self, uint32_t slot, bytes data not None, bytes addr not None, zr_ns_t now):
        return self.ingest(ZR_SOCK_INGRESS + slot, data, addr, now)

    def egress_input(self, bytes data not None, bytes addr not None, zr_ns_t now):
        return self.ingest(ZR_SOCK_EGRESS, data, addr, now)

    def turn(self, zr_ns_t now, int batches=-1):
        cdef list sent = []
        cdef int rc = ZR_E_full
        self.begin(now)
        self.in_turn = False
        while zr_fwd_mirror_input(self.fwd, 256, now) > 0:
            pass
        zr_fwd_on_deadline(self.fwd, now)
        zr_fwd_fan_out(self.fwd, now)
        while rc == ZR_E_full and batches != 0:
            rc = zr_fwd_output(self.fwd, &self.batch, now)
            sent += batch_rows(&self.batch)
            zr_batch_reset(&self.batch)
            batches -= 1
        return sent

    def load(self, uint32_t busy, uint32_t ring, uint32_t pool, zr_ns_t lag, zr_ns_t now):
        cdef zr_load load = zr_load(busy, ring, pool, lag)
        self.begin(now)
        zr_fwd_load(self.fwd, &load, now)

    def wakes(self):
        cdef list workers = []
        cdef int worker
        while (worker := zr_fwd_wake_next(self.fwd)) >= 0:
            workers.append(worker)
        return workers

    def sleep(self, int lane):
        zr_chan_sleep(&(<Inbox?>self.inboxes[lane]).inbox.page.asleep)
        return not zr_mirrors_waiting(zr_fwd_mirrors(self.fwd))

    def deadline(self):
        return zr_fwd_deadline(self.fwd)

    def check(self):
        return zr_fwd_check(self.fwd) and zr_pool_check(zr_fwd_pool(self.fwd))

    def pool_in_use(self):
        return zr_fwd_pool(self.fwd).in_use

    def ingress_closed(self):
        cdef list slots = []
        cdef int slot
        while (slot := zr_fwd_ingress_closed(self.fwd)) >= 0:
            slots.append(slot)
        return slots
