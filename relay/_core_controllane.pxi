# Part of _core.pyx: lane 63, the agent's.


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


def control_lane_bytes(uint32_t sessions_max=1024):
    cdef zr_agentlane_conf conf = zr_agentlane_conf_default(sessions_max)
    return zr_agentlane_bytes(&conf) + zr_agentlane_context_bytes(&conf)
