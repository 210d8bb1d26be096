# The core's C names, floor by floor. None raises and none needs the GIL; -1 is never an error code of theirs.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "<stdbool.h>":
    ctypedef bint cbool "bool"

cdef extern from "base/zr_base.h" nogil:
    ctypedef int64_t zr_ns_t
    ctypedef struct zr_part:
        const char *name
        size_t bytes

cdef extern from "base/zr_err.h" nogil:
    enum:
        ZR_OK, ZR_E_full, ZR_E_again, ZR_E_inval, ZR_E_os, ZR_E_closed

cdef extern from "base/zr_addr.h" nogil:
    ctypedef struct zr_addr:
        pass

cdef extern from "mem/zr_pool.h" nogil:
    ctypedef struct zr_pool:
        uint32_t in_use
    ctypedef struct zr_pkt:
        uint16_t len
    void zr_pkt_drop(zr_pkt *pkt)
    const uint8_t *zr_pkt_data(const zr_pkt *pkt)
    cbool zr_pool_check(const zr_pool *pool)

cdef extern from "mem/zr_batch.h" nogil:
    ctypedef struct zr_tx:
        zr_addr to
        uint16_t sock, len
        const uint8_t *data
    ctypedef struct zr_batch:
        zr_tx *tx
        uint32_t count
    size_t zr_batch_bytes(uint32_t cap, uint32_t arena_cap)
    int zr_batch_init(zr_batch *batch, void *mem, uint32_t cap, uint32_t arena_cap)
    void zr_batch_reset(zr_batch *batch)

cdef extern from "mem/zr_shm.h" nogil:
    int zr_shm_open(const char *name, size_t bytes)
    int zr_shm_map(int fd, size_t bytes, void **at)
    void zr_shm_unmap(void *at, size_t bytes)

cdef extern from "ring/zr_chan.h" nogil:
    ctypedef struct zr_spsc:
        pass
    void *zr_spsc_claim(zr_spsc *ring)
    void zr_spsc_commit(zr_spsc *ring)
    const void *zr_spsc_peek(zr_spsc *ring)
    void zr_spsc_release(zr_spsc *ring)
    cbool zr_spsc_check(const zr_spsc *ring)
    ctypedef struct zr_chan_mem:
        pass
    ctypedef struct zr_chan:
        uint32_t *worker_asleep  # _Atomic
        uint32_t *agent_asleep
    size_t zr_chan_bytes(uint32_t slots, uint32_t record_bytes)
    int zr_chan_init(zr_chan *chan, zr_chan_mem *mem, uint32_t slots, uint32_t record_bytes)
    int zr_chan_attach(zr_chan *chan, zr_chan_mem *mem, size_t bytes, uint32_t record_bytes)
    int zr_chan_look(zr_chan *chan, zr_chan_mem *mem, size_t bytes, uint32_t record_bytes)
    zr_spsc *zr_chan_commands(zr_chan *chan)
    zr_spsc *zr_chan_events(zr_chan *chan)
    cbool zr_chan_wake_needed(uint32_t *asleep)
    void zr_chan_sleep(uint32_t *asleep)
    void zr_chan_awake(uint32_t *asleep)

cdef extern from "ring/zr_inbox.h" nogil:
    enum:
        ZR_INBOX_WORKERS
    ctypedef struct zr_inbox_page:
        uint32_t asleep  # _Atomic
    ctypedef struct zr_inbox:
        zr_inbox_page *page
    size_t zr_inbox_bytes(uint32_t workers, uint32_t slots, uint32_t record_bytes)
    int zr_inbox_init(zr_inbox_page *page, uint32_t workers, uint32_t slots, uint32_t record_bytes)
    int zr_inbox_look(zr_inbox *inbox, zr_inbox_page *page, size_t bytes)

cdef extern from "mem/zr_life.h" nogil:
    int ZR_LIVES_MAX
    bint zr_life_ends(const void *word)  # _Atomic uint32_t, which Cython cannot say
    int zr_life_watch(const void *words, uint32_t count, int eventfd)

cdef extern from "stat/zr_stat.h" nogil:
    enum:
        ZR_STAT_COUNT, ZR_DROP_COUNT, ZR_HIST_COUNT, ZR_HIST_BUCKETS, ZR_LEDGER_COUNT, ZR_STAT_wakes,
        ZR_STAT_SESSIONS
    ctypedef struct zr_stream_row:  # each _Atomic
        uint64_t epoch, packets, bytes, last_ns, first_ns, next_number
        uint64_t fan_sent, nack_asked, nack_served, keyframes, stalls, drops
        uint64_t duplicates, oversize, state, gaps, resume_number
    ctypedef struct zr_link_row:  # each _Atomic
        uint64_t rx_datagrams, rx_bytes, rx_payload, tx_datagrams, tx_bytes, tx_payload
    ctypedef struct zr_stat_page:
        uint32_t streams_max, generation
        uint64_t pid, heartbeat_ns, started_ns
        uint32_t life  # _Atomic
        uint64_t stat[1]  # the real lengths are in the header; each word is _Atomic
        uint64_t drop[1]
        uint64_t hist[1][320]
        zr_link_row sessions[1024]
        zr_stream_row streams[1]
    size_t zr_stat_bytes(uint32_t streams_max)
    int zr_stat_init(zr_stat_page *page, uint32_t streams_max)
    int zr_stat_attach(zr_stat_page *page, size_t bytes)
    int zr_stat_look(const zr_stat_page *page, size_t bytes)
    uint64_t zr_hist_floor(uint32_t bucket)
    ctypedef struct zr_stat_counts:
        uint64_t stat[1]  # the real lengths are in the header
        uint64_t drop[1]
    bint zr_stat_snapshot(const zr_stat_page *page, zr_stat_counts *counts)
    int64_t zr_counts_off(const zr_stat_counts *counts, int ledger)
    ctypedef struct zr_stat_info:
        const char *name
        const char *kind
        const char *unit
        const char *help
    ctypedef struct zr_drop_info:
        const char *name
        const char *ledger
        const char *word
        const char *help
    const zr_stat_info *zr_stat_infos
    const zr_drop_info *zr_drop_infos
    const zr_stat_info *zr_hist_infos

cdef extern from "time/zr_clock.h" nogil:
    zr_ns_t zr_clock_now()

cdef extern from "sim/zr_simlink.h" nogil:
    ctypedef struct zr_simlink_conf:
        zr_ns_t delay, jitter
        double loss, burst, dup, reorder
        uint64_t rate_bps
        uint32_t queue_bytes, packets_max
        uint64_t seed
    ctypedef struct zr_simlink_counts:
        uint64_t in_ "in"
        uint64_t lost, queue_dropped, overflow, duplicated, reordered, out
    ctypedef struct zr_simlink:
        pass
    size_t zr_simlink_bytes(const zr_simlink_conf *conf)
    int zr_simlink_init(zr_simlink *link, const zr_simlink_conf *conf)
    int zr_simlink_put(zr_simlink *link, const void *data, size_t len, uint64_t tag, zr_ns_t now)
    zr_ns_t zr_simlink_deadline(const zr_simlink *link)
    int zr_simlink_get(zr_simlink *link, const uint8_t **data, uint64_t *tag, zr_ns_t now)
    const zr_simlink_counts *zr_simlink_counted(const zr_simlink *link)

cdef extern from "net/zr_udp.h" nogil:
    enum:
        ZR_UDP_GRO, ZR_UDP_DONT_FRAGMENT
    int zr_udp_open(const zr_addr *bind_to, uint32_t rcvbuf, uint32_t sndbuf, uint32_t flags)

cdef extern from "net/zr_fdpass.h" nogil:
    enum:
        ZR_FDPASS_MAGIC, ZR_FDPASS_INGRESS, ZR_FDPASS_BECOME, ZR_FDPASS_UP

cdef extern from "kcp/zr_kcp.h" nogil:
    ctypedef struct zr_kcp_estimates:
        uint32_t srtt_ms, timer_ms, queue_ms, loss_ppm, inbound_ppm, rate_kbps
        cbool full, dark
        zr_ns_t heard

cdef extern from "probe/zr_probe.h" nogil:
    enum:
        ZR_PATH_SAMPLES
    ctypedef struct zr_path:
        uint32_t rtt_us[256]
        uint32_t samples
    ctypedef struct zr_probe:
        zr_path path
    ctypedef struct zr_probe_view:
        cbool up, deaf, unheard, ask, offset_known
        uint16_t mtu, promise, theirs
        zr_ns_t heard, since, dead_after
        uint32_t pings, srtt_us, rtt_min_us, samples, longest_in, longest_out, flaps
        double loss_in, loss_out, drift_ppm
        int64_t jitter_ns, queue_in_ns, queue_out_ns, offset_ns
        int64_t delay_in_ns, delay_out_ns, delay_error_ns
        uint64_t reordered
        uint32_t received, expected
    void zr_probe_look(const zr_probe *probe, zr_probe_view *view, zr_ns_t now)

cdef extern from "probe/zr_paths.h" nogil:
    enum:
        ZR_PATHS_MAX
    ctypedef struct zr_paths_one:
        zr_addr addr
        cbool proven
        uint32_t known, srtt_us
    ctypedef struct zr_paths:
        zr_paths_one one[8]
        uint32_t count, used, moves
    double zr_paths_loss(const zr_paths_one *one)

cdef extern from "wire/zr_media.h" nogil:
    enum:
        ZR_DEADLINES

cdef extern from "wire/zr_seal.h" nogil:
    enum:
        ZR_SECRET_BYTES
    ctypedef struct zr_keys:
        uint8_t cipher
        cbool initiator
        uint8_t send[32]
        uint8_t recv[32]
        uint32_t age_ms
    int zr_cipher_default()
    void zr_wipe(void *mem, size_t size)

cdef extern from "forward/zr_lane.h" nogil:
    enum zr_rekey_why:
        pass
    ctypedef struct zr_lane_conf:
        uint8_t lane
        uint16_t epoch
        uint32_t sessions_max, convs_max, peer_lanes_max, blocks_max, window
        uint16_t deadline_ms
        double residual, max_overhead
    ctypedef struct zr_session_conf:
        uint32_t index, peer_index
        zr_addr agent
        uint8_t lanes
        uint16_t mtu
        uint32_t rate_mhz
        zr_keys keys
    size_t zr_lane_context_bytes(const zr_lane_conf *conf)

cdef extern from "forward/zr_mirror.h" nogil:
    enum:
        ZR_MIRROR_SLOTS, ZR_MIRROR_RECORD
    ctypedef struct zr_mirrors:
        pass
    cbool zr_mirrors_waiting(zr_mirrors *mirrors)
cdef extern from "forward/zr_journal.h" nogil:
    ctypedef struct zr_journal:
        uint32_t refused
    size_t zr_journal_bytes(uint32_t streams_max, uint32_t ingress_max, uint32_t subs_max)
    int zr_journal_init(zr_journal *journal, uint32_t streams_max, uint32_t ingress_max, uint32_t subs_max)
    int zr_journal_attach(zr_journal *journal, size_t size)

cdef extern from "forward/zr_fwd.h" nogil:
    enum:
        ZR_CMD_COUNT, ZR_EVT_COUNT
    ctypedef struct zr_cmd_info:
        const char *op
        const char *fields[7]
        const char *help
    const zr_cmd_info *zr_cmd_infos
    const zr_cmd_info *zr_evt_infos
    ctypedef struct zr_fwd_conf:
        zr_lane_conf lane
        uint32_t pkts_max, streams_max, subs_max, ingress_max, cache_max
        zr_ns_t cache_age_max
        uint32_t rtcp_ssrc
        uint16_t deadline_ms[3]
        uint16_t overload_enter[5]
        uint8_t workers
    ctypedef struct zr_load:
        uint32_t busy, ring, pool
        zr_ns_t lag
    ctypedef struct zr_fwd:
        pass
    zr_fwd_conf zr_fwd_conf_default(uint8_t lane, uint32_t streams_max)
    size_t zr_fwd_bytes(const zr_fwd_conf *conf)
    void zr_fwd_load(zr_fwd *fwd, const zr_load *load, zr_ns_t now)
    zr_fwd *zr_fwd_init(void *mem, const zr_fwd_conf *conf, zr_stat_page *page, zr_chan *chan, zr_ns_t now)
    zr_pool *zr_fwd_pool(zr_fwd *fwd)
    int zr_fwd_commands(zr_fwd *fwd, int budget, zr_ns_t now)
    int zr_fwd_ingress_closed(zr_fwd *fwd)
    void zr_fwd_on_deadline(zr_fwd *fwd, zr_ns_t now)
    zr_ns_t zr_fwd_deadline(const zr_fwd *fwd)
    int zr_fwd_fan_out(zr_fwd *fwd, zr_ns_t now)
    int zr_fwd_output(zr_fwd *fwd, zr_batch *batch, zr_ns_t now)
    cbool zr_fwd_check(const zr_fwd *fwd)
    int zr_fwd_meet(zr_fwd *fwd, uint32_t worker, const zr_inbox *inbox)
    int zr_fwd_mirror_input(zr_fwd *fwd, int budget, zr_ns_t now)
    int zr_fwd_wake_next(zr_fwd *fwd)
    zr_mirrors *zr_fwd_mirrors(zr_fwd *fwd)

cdef extern from "worker/zr_ingest.h" nogil:
    enum:
        ZR_SOCK_LINK, ZR_SOCK_EGRESS, ZR_SOCK_INGRESS
    int zr_ingest(zr_fwd *fwd, zr_stat_page *page, uint32_t sock, const uint8_t *data, size_t len, cbool truncated,
                  const zr_addr *addr, zr_ns_t came, zr_ns_t now)

cdef extern from "worker/zr_worker.h" nogil:
    ctypedef struct zr_worker_fds:
        int link, egress, fdpass, wake, agent_wake
    ctypedef struct zr_worker_peer:
        zr_inbox inbox
        int wake
    ctypedef struct zr_worker_conf:
        zr_fwd_conf fwd
        zr_worker_fds fds
        uint32_t batch
        cbool gso
        zr_ns_t spin
        zr_ns_t hold
        int stop_signal
        const zr_worker_peer *peers
        cbool spare
    ctypedef struct zr_worker:
        pass
    zr_worker_conf zr_worker_conf_default(uint8_t lane, uint32_t streams_max)
    enum:
        ZR_WORKER_PARTS
    size_t zr_worker_bytes(const zr_worker_conf *conf)
    int zr_worker_parts(const zr_worker_conf *conf, zr_part *parts)
    zr_worker *zr_worker_init(void *mem, const zr_worker_conf *conf, zr_stat_page *page, zr_chan *chan, zr_ns_t now)
    void zr_worker_fini(zr_worker *worker)
    int zr_worker_run(zr_worker *worker)
    void zr_worker_ask_stop(zr_worker *worker)

cdef extern from "worker/zr_spare.h" nogil:
    ctypedef struct zr_role:
        zr_stat_page *page
        zr_chan_mem *chan
        zr_journal *journal
        zr_worker_fds fds
        uint8_t lane
        char name[16]
    int zr_spare_stand_by(zr_worker *worker, int sock, zr_role *roles, uint32_t count)
    void zr_spare_memory(void *mem, size_t size)
    int zr_spare_pin(zr_worker *worker)

cdef extern from "gate/zr_gate.h" nogil:
    ctypedef struct zr_gate_keys:
        uint8_t public_key "public"[32]
        uint8_t mesh[32]
        uint8_t seed[32]
        uint8_t former[32]
        zr_ns_t former_until

cdef extern from "worker/zr_agentlane.h" nogil:
    enum:
        ZR_MESSAGE_MAX
    ctypedef struct zr_agentlane_conf:
        uint32_t sessions_max, pkts_max, batch
        cbool gso
        double residual, max_overhead
        uint16_t rate_idle, rate_active
        uint64_t seed
    ctypedef struct zr_hello:
        zr_addr addr "from"
        zr_pkt *pkt
    ctypedef struct zr_agentlane:
        pass
    zr_agentlane_conf zr_agentlane_conf_default(uint32_t sessions_max)
    size_t zr_agentlane_bytes(const zr_agentlane_conf *conf)
    size_t zr_agentlane_context_bytes(const zr_agentlane_conf *conf)
    zr_agentlane *zr_agentlane_init(void *mem, const zr_agentlane_conf *conf, zr_stat_page *page, zr_ns_t now)
    int zr_agentlane_input(zr_agentlane *agent, const uint8_t *data, size_t len, cbool truncated, const zr_addr *addr,
                           zr_ns_t now)
    int zr_agentlane_receive(zr_agentlane *agent, int fd, zr_ns_t now)
    int zr_agentlane_hello(zr_agentlane *agent, zr_hello *hello)
    uint32_t zr_agentlane_hellos_waiting(const zr_agentlane *agent)
    int zr_agentlane_gate_keys(zr_agentlane *agent, const zr_gate_keys *keys)
    void zr_agentlane_busy(zr_agentlane *agent, uint32_t thousandths)
    int zr_agentlane_message(zr_agentlane *agent, uint32_t *session, uint8_t *to)
    int zr_agentlane_refuse(zr_agentlane *agent, int why)
    int zr_agentlane_session_add(zr_agentlane *agent, uint32_t slot, const zr_session_conf *conf, zr_ns_t now)
    int zr_agentlane_session_rekey(zr_agentlane *agent, uint32_t slot, uint32_t index, uint32_t peer_index,
                                   const zr_keys *keys, zr_ns_t now)
    cbool zr_agentlane_rekey_wanted(zr_agentlane *agent, uint32_t *slot, zr_rekey_why *why)
    cbool zr_agentlane_violations(zr_agentlane *agent, uint32_t *slot, uint32_t *count)
    int zr_agentlane_session_drop(zr_agentlane *agent, uint32_t slot)
    int zr_agentlane_send(zr_agentlane *agent, uint32_t slot, const uint8_t *data, size_t len, zr_ns_t now)
    zr_ns_t zr_agentlane_heard(const zr_agentlane *agent, uint32_t slot)
    uint32_t zr_agentlane_index(const zr_agentlane *agent, uint32_t slot)
    uint32_t zr_agentlane_rtt_us(const zr_agentlane *agent, uint32_t slot)
    int zr_agentlane_estimated(const zr_agentlane *agent, uint32_t slot, zr_kcp_estimates *estimates,
                               uint64_t *sent)
    zr_ns_t zr_agentlane_deadline(const zr_agentlane *agent)
    int zr_agentlane_output(zr_agentlane *agent, zr_ns_t now)
    zr_batch *zr_agentlane_batch(zr_agentlane *agent)
    void zr_agentlane_flush(zr_agentlane *agent, int fd, zr_ns_t now)
    cbool zr_agentlane_check(const zr_agentlane *agent)
    int zr_agentlane_session_active(zr_agentlane *agent, uint32_t slot, cbool active, zr_ns_t now)
    const zr_probe *zr_agentlane_probe(const zr_agentlane *agent, uint32_t slot)
    int zr_agentlane_probed(zr_agentlane *agent, uint32_t *slot)
    int zr_agentlane_session_paths(zr_agentlane *agent, uint32_t slot, const zr_addr *addrs, uint32_t count, zr_ns_t now)
    const zr_paths *zr_agentlane_paths(const zr_agentlane *agent, uint32_t slot)
    int zr_agentlane_heard_elsewhere(zr_agentlane *agent, uint32_t slot, zr_ns_t when, zr_ns_t now)

cdef extern from "worker/zr_lists.h" nogil:
    enum:
        ZR_RECORD_BYTES, ZR_ADDR_BYTES, ZR_ERR_COUNT, ZR_CODEC_COUNT
    ctypedef struct zr_err_info:
        const char *name
        const char *text
        int value
    ctypedef struct zr_codec_info:
        const char *word
        const char *rtpmap
    const zr_err_info *zr_err_infos
    const zr_codec_info *zr_codec_infos
    const char **zr_ledger_names
    void *zr_memory_open(size_t size)
