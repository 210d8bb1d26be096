# cython: language_level=3
"""The binding: the core's lists and the owners of its objects, nothing else. _core.pyi says what each call means.

Times are int nanoseconds of the monotonic clock, addresses struct zr_addr as 20 bytes, records struct zr_cmd as 64.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_SetFromErrno
from libc.string cimport memcpy, memset

from os import urandom

from relay.errors import bind, error_for


cdef str text(const char *s):
    return s.decode("ascii")


cdef tuple info_rows(const zr_stat_info *infos, int count):
    return tuple([(text(infos[i].name), text(infos[i].kind), text(infos[i].unit), text(infos[i].help))
                  for i in range(count)])


cdef tuple record_rows(const zr_cmd_info *infos, int count):
    return tuple([(text(infos[i].op), tuple([text(infos[i].fields[f]) for f in range(7)]), text(infos[i].help))
                  for i in range(count)])


ERRORS = tuple([(text(zr_err_infos[i].name), zr_err_infos[i].value, text(zr_err_infos[i].text))
                for i in range(ZR_ERR_COUNT)])
STATS = info_rows(zr_stat_infos, ZR_STAT_COUNT)
DROPS = tuple([(text(zr_drop_infos[i].name), text(zr_drop_infos[i].ledger), text(zr_drop_infos[i].word),
                text(zr_drop_infos[i].help)) for i in range(ZR_DROP_COUNT)])
HISTS = info_rows(zr_hist_infos, ZR_HIST_COUNT)
COMMANDS = record_rows(zr_cmd_infos, ZR_CMD_COUNT)
EVENTS = record_rows(zr_evt_infos, ZR_EVT_COUNT)
CODECS = tuple([(text(zr_codec_infos[i].word), text(zr_codec_infos[i].rtpmap)) for i in range(ZR_CODEC_COUNT)])
FDPASS = (ZR_FDPASS_MAGIC, ZR_FDPASS_INGRESS)
FDPASS_BECOME, FDPASS_UP = ZR_FDPASS_BECOME, ZR_FDPASS_UP
cdef dict DROP_IDS = {row[0]: i for i, row in enumerate(DROPS)}
cdef dict HIST_IDS = {row[0]: i for i, row in enumerate(HISTS)}

bind(ERRORS)


cdef int check(int rc) except -1:
    if rc >= 0:
        return rc
    if rc == ZR_E_os:
        PyErr_SetFromErrno(OSError)
        return -1
    raise error_for(rc)


cdef zr_addr addr_of(bytes data) except *:
    cdef zr_addr addr
    if PyBytes_GET_SIZE(data) != ZR_ADDR_BYTES:
        raise ValueError(f"an address is {ZR_ADDR_BYTES} bytes, not {len(data)}")
    memcpy(&addr, PyBytes_AS_STRING(data), ZR_ADDR_BYTES)
    return addr


cdef int keys_of(tuple row, zr_keys *keys) except -1:
    """relay.actions.SessionKeys.row(); None is plaintext. The caller wipes `keys`."""
    memset(keys, 0, sizeof(keys[0]))
    if row is None:
        return 0
    cdef bytes send, recv
    cipher, at_once, send, recv, age_ms = row
    if len(send) != ZR_SECRET_BYTES or len(recv) != ZR_SECRET_BYTES:
        raise ValueError(f"a direction secret is {ZR_SECRET_BYTES} bytes")
    keys.cipher, keys.initiator, keys.age_ms = cipher, at_once, age_ms
    memcpy(keys.send, PyBytes_AS_STRING(send), ZR_SECRET_BYTES)
    memcpy(keys.recv, PyBytes_AS_STRING(recv), ZR_SECRET_BYTES)
    return 0


def cipher_default():
    return zr_cipher_default()


cdef bytes addr_bytes(const zr_addr *addr):
    return PyBytes_FromStringAndSize(<const char *>addr, ZR_ADDR_BYTES)


cdef inline const uint8_t *data_of(bytes data):
    return <const uint8_t *>PyBytes_AS_STRING(data)


def clock_now():
    return zr_clock_now()


def shm_open(str name not None, size_t size):
    cdef bytes encoded = name.encode()
    return check(zr_shm_open(encoded, size))


def udp_open(bytes address not None, *, uint32_t rcvbuf=0, uint32_t sndbuf=0, bint gro=False, bint fragment=True):
    cdef zr_addr addr = addr_of(address)
    return check(zr_udp_open(&addr, rcvbuf, sndbuf,
                             (ZR_UDP_GRO if gro else 0) | (0 if fragment else ZR_UDP_DONT_FRAGMENT)))


@cython.final
@cython.internal
cdef class Region:
    """Memory for as long as its owner lives: a shared page by its descriptor, or our own, zeroed."""

    cdef void *at
    cdef size_t size

    def __dealloc__(self):
        zr_shm_unmap(self.at, self.size)


cdef Region shared(int fd, size_t size):
    cdef Region region = Region.__new__(Region)
    region.size = size
    check(zr_shm_map(fd, size, &region.at))
    return region


cdef Region private(size_t size):
    cdef Region region = Region.__new__(Region)
    if size == 0:
        raise error_for(ZR_E_inval, "a size is out of range")
    region.at = zr_memory_open(size)
    if region.at is NULL:
        raise MemoryError(f"{size} bytes")
    region.size = size
    return region


cdef class Counters:
    """Whoever has a counter page."""

    cdef Region page_region
    cdef zr_stat_page *page
    cdef uint32_t streams_max  # ours; the page's own word can be written by whoever shares it

    cdef int own_page(self, uint32_t streams_max) except -1:
        self.page_region = private(zr_stat_bytes(streams_max))
        self.streams_max = streams_max
        self.page = <zr_stat_page *>self.page_region.at
        return check(zr_stat_init(self.page, streams_max))

    cdef int share_page(self, int fd, uint32_t streams_max) except -1:
        self.page_region = shared(fd, zr_stat_bytes(streams_max))
        self.streams_max = streams_max
        self.page = <zr_stat_page *>self.page_region.at

    def counts(self):
        cdef zr_stat_counts counts
        zr_stat_snapshot(self.page, &counts)
        return ({row[0]: counts.stat[i] for i, row in enumerate(STATS)},
                {row[0]: counts.drop[i] for i, row in enumerate(DROPS)},
                {text(zr_ledger_names[i]): zr_counts_off(&counts, i) for i in range(ZR_LEDGER_COUNT)})

    def stats(self):
        return self.counts()[0]

    def drops(self):
        return self.counts()[1]

    def hist(self, str name not None):
        cdef int h = HIST_IDS[name]
        return [(zr_hist_floor(bucket), self.page.hist[h][bucket]) for bucket in range(<uint32_t>ZR_HIST_BUCKETS)
                if self.page.hist[h][bucket] > 0]

    def ledgers(self):
        return self.counts()[2]

    def stream(self, uint32_t slot):
        if slot >= self.streams_max:
            raise IndexError(f"stream slot {slot} of {self.streams_max}")
        cdef zr_stream_row *row = &self.page.streams[slot]
        return {"epoch": row.epoch, "packets": row.packets, "bytes": row.bytes, "last_ns": row.last_ns,
                "first_ns": row.first_ns, "next_number": row.next_number, "fan_sent": row.fan_sent,
                "nack_asked": row.nack_asked, "nack_served": row.nack_served, "keyframes": row.keyframes,
                "stalls": row.stalls, "drops": row.drops, "duplicates": row.duplicates, "oversize": row.oversize,
                "state": row.state, "gaps": row.gaps, "resume_number": row.resume_number}

    def session(self, uint32_t slot):
        if slot >= ZR_STAT_SESSIONS:
            raise IndexError(f"session slot {slot} of {ZR_STAT_SESSIONS}")
        cdef zr_link_row *row = &self.page.sessions[slot]
        return (row.rx_datagrams, row.rx_bytes, row.rx_payload, row.tx_datagrams, row.tx_bytes, row.tx_payload)

    @property
    def pid(self):
        return self.page.pid

    @property
    def generation(self):
        return self.page.generation

    @property
    def heartbeat_ns(self):
        return self.page.heartbeat_ns

    @property
    def started_ns(self):
        return self.page.started_ns


@cython.final
cdef class StatPage(Counters):
    def __cinit__(self, int fd, *, uint32_t streams_max, bint create=False):
        self.share_page(fd, streams_max)
        check(zr_stat_init(self.page, streams_max) if create else zr_stat_look(self.page, self.page_region.size))

    @staticmethod
    def bytes_for(uint32_t streams_max):
        return zr_stat_bytes(streams_max)

    @property
    def ending(self):
        return zr_life_ends(&self.page.life)


def watch_lives(list pages not None, int eventfd):
    cdef const void *words[128]
    cdef uint32_t count = 0
    cdef int rc
    cdef StatPage page
    if len(pages) > ZR_LIVES_MAX:
        raise error_for(ZR_E_inval, f"{len(pages)} pages")
    for page in pages:
        words[count] = &page.page.life
        count += 1
    with nogil:
        rc = zr_life_watch(words, count, eventfd)
    check(rc)


cdef int put_record(zr_chan *chan, bytes record) except -1:
    if PyBytes_GET_SIZE(record) != ZR_RECORD_BYTES:
        raise ValueError(f"a record is {ZR_RECORD_BYTES} bytes, not {len(record)}")
    cdef void *slot = zr_spsc_claim(zr_chan_commands(chan))
    if slot is NULL:
        return 0
    memcpy(slot, PyBytes_AS_STRING(record), ZR_RECORD_BYTES)
    zr_spsc_commit(zr_chan_commands(chan))
    return 1


cdef list take_records(zr_chan *chan, Py_ssize_t most):
    cdef const void *slot
    cdef list records = []
    while len(records) < most:
        slot = zr_spsc_peek(zr_chan_events(chan))
        if slot is NULL:
            break
        records.append(PyBytes_FromStringAndSize(<const char *>slot, ZR_RECORD_BYTES))
        zr_spsc_release(zr_chan_events(chan))
    return records


@cython.final
cdef class Channel:
    cdef Region region
    cdef zr_chan chan

    def __cinit__(self, int fd, *, uint32_t slots=4096, bint create=False):
        self.region = shared(fd, Channel.bytes_for(slots))
        cdef zr_chan_mem *mem = <zr_chan_mem *>self.region.at
        check(zr_chan_init(&self.chan, mem, slots, ZR_RECORD_BYTES) if create
              else zr_chan_look(&self.chan, mem, self.region.size, ZR_RECORD_BYTES))

    @staticmethod
    def bytes_for(uint32_t slots):
        cdef size_t size = zr_chan_bytes(slots, ZR_RECORD_BYTES)
        if size == 0:
            raise ValueError(f"slots: a power of two from 2, not {slots}")
        return size

    def post(self, bytes record not None):
        return put_record(&self.chan, record) == 1

    def wake_needed(self):
        return zr_chan_wake_needed(self.chan.worker_asleep)

    def events(self, Py_ssize_t most=4096):
        return take_records(&self.chan, most)

    def sleep(self):
        zr_chan_sleep(self.chan.agent_asleep)

    def awake(self):
        zr_chan_awake(self.chan.agent_asleep)

    @property
    def corrupt(self):
        return not (zr_spsc_check(zr_chan_events(&self.chan)) and zr_spsc_check(zr_chan_commands(&self.chan)))


@cython.final
cdef class Inbox:
    cdef Region region
    cdef zr_inbox inbox

    def __cinit__(self, int workers, *, int fd=-1, uint32_t slots=ZR_MIRROR_SLOTS, bint create=False):
        cdef size_t size = Inbox.bytes_for(workers, slots=slots)
        self.region = private(size) if fd < 0 else shared(fd, size)
        if fd < 0 or create:
            check(zr_inbox_init(<zr_inbox_page *>self.region.at, workers, slots, ZR_MIRROR_RECORD))
        check(zr_inbox_look(&self.inbox, <zr_inbox_page *>self.region.at, size))

    @staticmethod
    def bytes_for(int workers, *, uint32_t slots=ZR_MIRROR_SLOTS):
        cdef size_t size = zr_inbox_bytes(workers if workers > 0 else 0, slots, ZR_MIRROR_RECORD)
        if size == 0:
            raise ValueError(f"1 to {ZR_INBOX_WORKERS} workers, slots a power of two: not {workers}, {slots}")
        return size


OVERLOAD_ENTER = (0.75, 0.85, 0.93, 0.98)


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


cdef int set_deadlines(zr_fwd_conf *conf, tuple deadlines_ms) except -1:
    if len(deadlines_ms) != ZR_DEADLINES:
        raise ValueError(f"deadlines_ms: {ZR_DEADLINES} of them, not {len(deadlines_ms)}")
    for i in range(ZR_DEADLINES):
        conf.deadline_ms[i] = deadlines_ms[i]


cdef list batch_rows(const zr_batch *batch):
    return [(batch.tx[i].sock, addr_bytes(&batch.tx[i].to),
             PyBytes_FromStringAndSize(<const char *>batch.tx[i].data, batch.tx[i].len)) for i in range(batch.count)]


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


cdef enum:
    HELLOS_PER_CALL = 16  # each costs a key exchange: the event loop goes round in between


@cython.final
cdef class ControlLane(Counters):
    cdef Region mem, scratch
    cdef zr_agentlane *lane

    def __cinit__(self, zr_ns_t now, *, uint32_t sessions_max=1024, int page_fd=-1, bint gso=True,
                  double residual=0, double max_overhead=0, int rate_idle=-1, int rate_active=-1, uint64_t seed=0):
        cdef zr_agentlane_conf conf = zr_agentlane_conf_default(sessions_max)
        if rate_idle >= 0:
            conf.rate_idle = rate_idle
        if rate_active >= 0:
            conf.rate_active = rate_active
        conf.seed = seed
        conf.gso, conf.residual, conf.max_overhead = gso, residual, max_overhead
        if page_fd < 0:
            self.own_page(0)
        else:
            self.share_page(page_fd, 0)
            check(zr_stat_attach(self.page, self.page_region.size))
        self.scratch = private(ZR_MESSAGE_MAX)
        self.mem = private(zr_agentlane_bytes(&conf))
        self.lane = zr_agentlane_init(self.mem.at, &conf, self.page, now)
        if self.lane is NULL:
            raise error_for(ZR_E_inval, "ControlLane")

    cdef list hellos(self):
        cdef zr_hello hello
        cdef list taken = []
        while len(taken) < HELLOS_PER_CALL and zr_agentlane_hello(self.lane, &hello) == ZR_OK:
            taken.append((PyBytes_FromStringAndSize(<const char *>zr_pkt_data(hello.pkt), hello.pkt.len),
                          addr_bytes(&hello.addr)))
            zr_pkt_drop(hello.pkt)
        return taken

    def input(self, bytes data not None, bytes addr not None, zr_ns_t now):
        cdef zr_addr source = addr_of(addr)
        zr_agentlane_input(self.lane, data_of(data), len(data), False, &source, now)
        return self.hellos()

    def receive(self, int fd, zr_ns_t now):
        zr_agentlane_receive(self.lane, fd, now)
        return self.hellos()

    def hellos_waiting(self):
        return zr_agentlane_hellos_waiting(self.lane)

    def gate_keys(self, bytes public not None, bytes mesh not None, bytes seed=None, bytes former=None,
                  zr_ns_t former_until=0):
        cdef zr_gate_keys keys
        seed = urandom(sizeof(keys.seed)) if seed is None else seed
        for key in (public, mesh, seed, mesh if former is None else former):
            if len(key) != sizeof(keys.mesh):
                raise error_for(ZR_E_inval, "gate_keys: 32 bytes each")
        memset(&keys, 0, sizeof(keys))
        if former is not None:
            memcpy(keys.former, data_of(former), sizeof(keys.former))
            keys.former_until = former_until
        memcpy(keys.public_key, data_of(public), sizeof(keys.public_key))
        memcpy(keys.mesh, data_of(mesh), sizeof(keys.mesh))
        memcpy(keys.seed, data_of(seed), sizeof(keys.seed))
        try:
            check(zr_agentlane_gate_keys(self.lane, &keys))
        finally:
            memset(&keys, 0, sizeof(keys))

    def busy(self, uint32_t thousandths):
        zr_agentlane_busy(self.lane, thousandths)

    def messages(self):
        cdef uint32_t session = 0
        cdef list taken = []
        cdef int size
        while (size := zr_agentlane_message(self.lane, &session, <uint8_t *>self.scratch.at)) >= 0:
            taken.append((session, PyBytes_FromStringAndSize(<const char *>self.scratch.at, size)))
        return taken

    def refuse(self, str drop not None):
        check(zr_agentlane_refuse(self.lane, DROP_IDS[drop]))

    def session_add(self, uint32_t slot, uint32_t index, uint32_t peer_index, uint8_t lanes, uint32_t rate_mhz,
                    uint16_t mtu, bytes addr not None, zr_ns_t now, tuple keys=None):
        cdef zr_session_conf conf
        cdef int rc
        conf.index, conf.peer_index, conf.lanes = index, peer_index, lanes
        conf.rate_mhz, conf.mtu, conf.agent = rate_mhz, mtu, addr_of(addr)
        keys_of(keys, &conf.keys)
        rc = zr_agentlane_session_add(self.lane, slot, &conf, now)
        zr_wipe(&conf.keys, sizeof(conf.keys))
        check(rc)

    def session_rekey(self, uint32_t slot, uint32_t index, uint32_t peer_index, tuple keys not None, zr_ns_t now):
        cdef zr_keys made
        cdef int rc
        keys_of(keys, &made)
        rc = zr_agentlane_session_rekey(self.lane, slot, index, peer_index, &made, now)
        zr_wipe(&made, sizeof(made))
        check(rc)

    def rekeys(self):
        cdef uint32_t slot = 0
        cdef zr_rekey_why why
        cdef list wanted = []
        while zr_agentlane_rekey_wanted(self.lane, &slot, &why):
            wanted.append((slot, <int>why))
        return wanted

    def violations(self):
        cdef uint32_t slot = 0, count = 0
        cdef list told = []
        while zr_agentlane_violations(self.lane, &slot, &count):
            told.append((slot, count))
        return told

    def session_drop(self, uint32_t slot):
        check(zr_agentlane_session_drop(self.lane, slot))

    def send(self, uint32_t slot, bytes payload not None, zr_ns_t now):
        check(zr_agentlane_send(self.lane, slot, data_of(payload), len(payload), now))

    def heard(self, uint32_t slot):
        return zr_agentlane_heard(self.lane, slot)

    def index(self, uint32_t slot):
        return zr_agentlane_index(self.lane, slot)

    def rtt_us(self, uint32_t slot):
        return zr_agentlane_rtt_us(self.lane, slot)

    def estimates(self, uint32_t slot):
        cdef zr_kcp_estimates e
        cdef uint64_t sent = 0
        if zr_agentlane_estimated(self.lane, slot, &e, &sent) != ZR_OK:
            return None
        return {"srtt_ms": e.srtt_ms, "timer_ms": e.timer_ms, "queue_ms": e.queue_ms, "loss_ppm": e.loss_ppm,
                "inbound_ppm": e.inbound_ppm, "rate_kbps": e.rate_kbps, "full": e.full, "dark": e.dark,
                "heard": e.heard, "sent": sent}

    def session_active(self, uint32_t slot, bint active, zr_ns_t now):
        check(zr_agentlane_session_active(self.lane, slot, active, now))

    def heard_elsewhere(self, uint32_t slot, zr_ns_t when, zr_ns_t now):
        check(zr_agentlane_heard_elsewhere(self.lane, slot, when, now))

    def probed(self):
        cdef uint32_t slot = 0
        cdef list slots = []
        while zr_agentlane_probed(self.lane, &slot) == ZR_OK:
            slots.append(slot)
        return slots

    def probe(self, uint32_t slot, zr_ns_t now):
        cdef zr_probe_view v
        cdef const zr_probe *probe = zr_agentlane_probe(self.lane, slot)
        cdef const zr_paths *paths = zr_agentlane_paths(self.lane, slot)
        if probe is NULL:
            return None
        zr_probe_look(probe, &v, now)
        known = v.offset_known
        return {"up": v.up, "deaf": v.deaf, "unheard": v.unheard, "ask": v.ask, "mtu": v.mtu, "promise": v.promise,
                "theirs": v.theirs, "heard": v.heard, "since": v.since, "dead_after": v.dead_after,
                "srtt_us": v.srtt_us, "rtt_min_us": v.rtt_min_us, "pings": v.pings, "samples": v.samples, "longest_in": v.longest_in,
                "longest_out": v.longest_out, "flaps": v.flaps, "loss_in": v.loss_in, "loss_out": v.loss_out,
                "jitter_ns": v.jitter_ns, "queue_in_ns": v.queue_in_ns, "queue_out_ns": v.queue_out_ns,
                "offset_ns": v.offset_ns if known else None, "drift_ppm": v.drift_ppm if known else None,
                "delay_in_ns": v.delay_in_ns if known else None, "delay_out_ns": v.delay_out_ns if known else None,
                "delay_error_ns": v.delay_error_ns if known else None,
                "reordered": v.reordered, "received": v.received, "expected": v.expected,
                "addr": addr_bytes(&paths.one[paths.used].addr), "moves": paths.moves}

    def session_paths(self, uint32_t slot, list addrs not None, zr_ns_t now):
        cdef zr_addr listed[ZR_PATHS_MAX]
        cdef uint32_t i, count = len(addrs)
        if count > ZR_PATHS_MAX:
            raise error_for(ZR_E_inval, "session_paths: too many addresses")
        for i in range(count):
            listed[i] = addr_of(addrs[i])
        check(zr_agentlane_session_paths(self.lane, slot, listed, count, now))

    def paths(self, uint32_t slot):
        cdef const zr_paths *paths = zr_agentlane_paths(self.lane, slot)
        if paths is NULL:
            return []
        return [{"addr": addr_bytes(&paths.one[i].addr), "used": i == paths.used, "proven": paths.one[i].proven,
                 "srtt_us": paths.one[i].srtt_us, "loss": zr_paths_loss(&paths.one[i]), "known": paths.one[i].known}
                for i in range(paths.count)]

    def round_trips(self, uint32_t slot, uint32_t since=0):
        cdef const zr_probe *probe = zr_agentlane_probe(self.lane, slot)
        cdef uint32_t i, count
        if probe is NULL:
            return []
        count = probe.path.samples
        i = max(since, count - ZR_PATH_SAMPLES if count > ZR_PATH_SAMPLES else 0)
        return [probe.path.rtt_us[k % ZR_PATH_SAMPLES] for k in range(i, count)]

    def datagrams(self, zr_ns_t now):
        cdef list sent = []
        cdef int rc = ZR_E_full
        while rc == ZR_E_full:
            rc = zr_agentlane_output(self.lane, now)
            sent += [(addr, data) for _, addr, data in batch_rows(zr_agentlane_batch(self.lane))]
            zr_batch_reset(zr_agentlane_batch(self.lane))
        check(rc)
        return sent

    def flush(self, int fd, zr_ns_t now):
        zr_agentlane_flush(self.lane, fd, now)

    def deadline(self):
        return zr_agentlane_deadline(self.lane)

    def check(self):
        return zr_agentlane_check(self.lane)


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


def control_lane_bytes(uint32_t sessions_max=1024):
    cdef zr_agentlane_conf conf = zr_agentlane_conf_default(sessions_max)
    return zr_agentlane_bytes(&conf) + zr_agentlane_context_bytes(&conf)


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


@cython.final
cdef class SimLink:
    cdef Region mem
    cdef zr_simlink *link

    def __cinit__(self, zr_ns_t delay_ns=0, zr_ns_t jitter_ns=0, double loss=0.0, double burst=1.0, double dup=0.0,
                  double reorder=0.0, uint64_t rate_bps=0, uint32_t queue_bytes=0, uint32_t packets_max=4096,
                  uint64_t seed=0):
        cdef zr_simlink_conf conf
        conf.delay, conf.jitter, conf.loss, conf.burst, conf.dup = delay_ns, jitter_ns, loss, burst, dup
        conf.reorder, conf.rate_bps, conf.queue_bytes = reorder, rate_bps, queue_bytes
        conf.packets_max, conf.seed = packets_max, seed
        self.mem = private(zr_simlink_bytes(&conf))
        self.link = <zr_simlink *>self.mem.at
        check(zr_simlink_init(self.link, &conf))

    def put(self, bytes data not None, uint64_t tag, zr_ns_t now):
        return check(zr_simlink_put(self.link, data_of(data), len(data), tag, now)) == ZR_OK

    def get(self, zr_ns_t now):
        cdef const uint8_t *data = NULL
        cdef uint64_t tag = 0
        cdef int size = zr_simlink_get(self.link, &data, &tag, now)
        if size == ZR_E_again:
            return None
        return PyBytes_FromStringAndSize(<const char *>data, check(size)), tag

    def deadline(self):
        return zr_simlink_deadline(self.link)

    def counts(self):
        cdef const zr_simlink_counts *c = zr_simlink_counted(self.link)
        return {"in": c.in_, "lost": c.lost, "queue_dropped": c.queue_dropped, "overflow": c.overflow,
                "duplicated": c.duplicated, "reordered": c.reordered, "out": c.out}
