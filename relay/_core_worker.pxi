# Part of _core.pyx: a worker: what its successor reads, its place, its sizes, its life.


cdef size_t journal_size(uint32_t streams_max):
    cdef zr_fwd_conf conf = zr_fwd_conf_default(0, streams_max)
    return zr_journal_bytes(streams_max, conf.ingress_max, conf.subs_max)


def journal_open(str name not None, uint32_t streams_max):
    cdef zr_fwd_conf conf = zr_fwd_conf_default(0, streams_max)
    cdef size_t size = journal_size(streams_max)
    cdef int fd = shm_open(name, size)
    cdef Region region = shared(fd, size)
    check(zr_journal_init(<zr_journal *>region.at, streams_max, conf.ingress_max, conf.subs_max))
    return fd


@cython.final
@cython.internal
cdef class Place:
    """A worker's place as a spare sees it: its shared regions."""

    cdef Region page, chan, journal
    cdef zr_role role

    cdef int open(self, dict fds, uint8_t lane, bytes name, size_t page_size, size_t chan_size,
                  size_t journal_size) except -1:
        self.page, self.chan = shared(fds["page"], page_size), shared(fds["chan"], chan_size)
        self.role.page, self.role.chan = <zr_stat_page *>self.page.at, <zr_chan_mem *>self.chan.at
        if "journal" in fds:
            self.journal = shared(fds["journal"], journal_size)
            self.role.journal = <zr_journal *>self.journal.at
        self.role.fds = zr_worker_fds(fds["link"], fds["egress"], -1, fds["wake"], fds["agent_wake"])
        self.role.lane = lane
        memcpy(self.role.name, PyBytes_AS_STRING(name), min(15, len(name)))
        return 0


cdef void set_sizes(zr_worker_conf *conf, uint32_t sessions_max, uint32_t window, uint32_t batch):
    conf.batch = batch
    conf.fwd.lane.sessions_max, conf.fwd.lane.peer_lanes_max = sessions_max, 2 * sessions_max
    conf.fwd.lane.window = window


def worker_parts(*, uint32_t streams_max, uint32_t sessions_max=1024, uint32_t window=1024, uint32_t batch=64,
                 uint32_t chan_slots=4096):
    cdef zr_worker_conf conf = zr_worker_conf_default(0, streams_max)
    cdef zr_part parts[ZR_WORKER_PARTS]
    cdef int i, count
    set_sizes(&conf, sessions_max, window, batch)
    count = zr_worker_parts(&conf, parts)
    if count == 0:
        raise error_for(ZR_E_inval, "worker_parts: sizes")
    made = {text(parts[i].name) if parts[i].name is not NULL else f"part {i}": parts[i].bytes for i in range(count)}
    made["rest"] = zr_worker_bytes(&conf) - sum(made.values())
    made["cipher contexts"] = zr_lane_context_bytes(&conf.fwd.lane)
    made["counters"] = zr_stat_bytes(streams_max)
    made["rings"] = Channel.bytes_for(chan_slots)
    return made


@cython.final
@cython.no_gc_clear  # __dealloc__ still needs what the regions hold
cdef class Worker(Counters):
    cdef Region mem, chan_mem, journal_mem
    cdef zr_chan chan
    cdef list inboxes
    cdef zr_worker *worker
    cdef bint running

    def __cinit__(self, *, uint8_t lane=0, int chan_fd=-1, int page_fd=-1, int link_fd=-1, int egress_fd=-1, int fdpass_fd=-1,
                  int wake_fd=-1, int agent_wake_fd=-1, uint32_t streams_max=64, uint32_t chan_slots=4096,
                  uint32_t sessions_max=1024, uint32_t window=1024, uint32_t batch=64, bint gso=True,
                  zr_ns_t spin_ns=0, zr_ns_t hold_ns=0, int stop_signal=0, tuple deadlines_ms=(400, 400, 400), double residual=0,
                  double max_overhead=0, tuple overload_enter=OVERLOAD_ENTER,
                  list peers=None):
        cdef zr_worker_peer met[ZR_INBOX_WORKERS]
        cdef zr_worker_conf conf = zr_worker_conf_default(lane, streams_max)
        set_deadlines(&conf.fwd, deadlines_ms)
        set_overload(&conf.fwd, overload_enter)
        conf.fwd.lane.residual, conf.fwd.lane.max_overhead = residual, max_overhead
        conf.fds = zr_worker_fds(link_fd, egress_fd, fdpass_fd, wake_fd, agent_wake_fd)
        conf.gso, conf.spin, conf.stop_signal = gso, spin_ns, stop_signal
        conf.hold = hold_ns
        set_sizes(&conf, sessions_max, window, batch)
        if peers and len(peers) > 1:
            self.inboxes = [Inbox(len(peers), fd=inbox_fd) for inbox_fd, _ in peers]
            for i, (_, peer_wake) in enumerate(peers):
                met[i].inbox, met[i].wake = (<Inbox>self.inboxes[i]).inbox, peer_wake
            conf.fwd.workers, conf.peers = len(peers), met
        conf.spare = page_fd < 0
        if page_fd >= 0:
            self.share_page(page_fd, streams_max)
            check(zr_stat_attach(self.page, self.page_region.size))
            conf.fwd.lane.epoch = <uint16_t>self.page.generation  # a successor counts its datagrams from 0 again
            self.chan_mem = shared(chan_fd, Channel.bytes_for(chan_slots))
            check(zr_chan_attach(&self.chan, <zr_chan_mem *>self.chan_mem.at, self.chan_mem.size, ZR_RECORD_BYTES))
        else:  # a spare: these are what its role's will be moved over
            self.own_page(streams_max)
            self.chan_mem = private(Channel.bytes_for(chan_slots))
            check(zr_chan_init(&self.chan, <zr_chan_mem *>self.chan_mem.at, chan_slots, ZR_RECORD_BYTES))
        self.mem = private(zr_worker_bytes(&conf))
        zr_spare_memory(self.mem.at, self.mem.size)
        self.worker = zr_worker_init(self.mem.at, &conf, self.page, &self.chan, zr_clock_now())
        if self.worker is NULL:
            raise error_for(ZR_E_inval, "Worker: sizes or descriptors")

    def __dealloc__(self):
        if self.worker is not NULL:
            zr_worker_fini(self.worker)

    def pin(self):
        return zr_spare_pin(self.worker) == ZR_OK

    def stand_by(self, int sock, list places not None):
        cdef zr_role roles[64]
        cdef Place place
        cdef list opened = []
        cdef int i, rc, count = len(places)
        if count > 62:
            raise ValueError(f"{count} workers")
        for lane, name, fds in places:
            place = Place()
            place.open(fds, lane, name.encode(), self.page_region.size, self.chan_mem.size,
                       journal_size(self.streams_max))
            roles[len(opened)] = place.role
            opened.append(place)
        with nogil:
            rc = zr_spare_stand_by(self.worker, sock, roles, count)
        role = -1
        for i in range(count):
            place = opened[i]
            place.page.at, place.chan.at = roles[i].page, roles[i].chan
            if roles[i].page is NULL:
                role, self.journal_mem = i, place.journal
        if rc == ZR_E_closed:
            return -1
        check(rc)
        return role

    def run(self):
        cdef int rc
        if self.running:
            raise RuntimeError("this worker runs already")
        self.running = True
        with nogil:  # the whole life of the data plane
            rc = zr_worker_run(self.worker)
        self.running = False
        check(rc)

    def ask_stop(self):
        zr_worker_ask_stop(self.worker)
