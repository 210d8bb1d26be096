#include "worker/zr_agentlane.h"

#include <string.h>
#include <unistd.h>

#include "base/zr_err.h"
#include "time/zr_rate.h"
#include "worker/zr_ingest.h"

#define SOURCES       1024u /* token buckets; sources that collide share one */
#define REPLIES       64u   /* cookie replies between two outputs */
#define LOOK_EVERY    ZR_MS(100)
#define BATCH_ENTRIES 256u
#define ARENA_BYTES   (BATCH_ENTRIES * 1536u)
#define LANE_WINDOW   256u
#define CONTROL_CONV  0u

struct zr_agentlane {
    zr_agentlane_conf conf;
    zr_stat_page *page;
    zr_lane *lane;
    zr_udp_rx *rx;
    zr_udp_tx *tx;
    zr_udp_sock sock; /* what the last flush was given */
    zr_ns_t look_at;  /* at the socket, next time */
    zr_pool pool;
    zr_batch batch;
    zr_hello hellos[ZR_HELLO_QUEUE]; /* a ring: first .. first + count */
    uint32_t first, count;
    void *gate_mem;
    zr_gate *gate;  /* NULL: plaintext, then */
    uint64_t loads; /* of gates with other keys, before this one */
    bool keyed;
    zr_ns_t full_at[SOURCES]; /* zr_rate, by source */
    uint32_t replies;
    struct {
        zr_addr to;
        uint8_t data[ZR_GATE_COOKIE];
    } reply[REPLIES]; /* on their way into the batch */
};

enum part { PART_POOL, PART_LANE, PART_RX, PART_TX, PART_BATCH, PART_GATE, PARTS };

static zr_lane_conf lane_conf(const zr_agentlane_conf *conf)
{
    return (zr_lane_conf){
        .lane = ZR_LANE_AGENT,
        .sessions_max = conf->sessions_max,
        .convs_max = conf->sessions_max,
        .peer_lanes_max = conf->sessions_max,
        .blocks_max = ZR_MIN(2 * conf->sessions_max + 64, 65534u),
        .window = LANE_WINDOW,
        .probe = { .rate_idle = conf->rate_idle, .rate_active = conf->rate_active, .seed = conf->seed },
        .residual = conf->residual,
        .max_overhead = conf->max_overhead,
        .ciphers = 1u << zr_cipher_default(),
    };
}

static size_t lay_out(const zr_agentlane_conf *conf, size_t at[PARTS])
{
    const zr_lane_conf lane = lane_conf(conf);
    const size_t bytes[PARTS] = {
        [PART_POOL] = zr_pool_bytes(conf->pkts_max),
        [PART_LANE] = zr_lane_bytes(&lane),
        [PART_RX] = zr_udp_rx_bytes(conf->batch, ZR_UDP_AREA_BYTES),
        [PART_TX] = zr_udp_tx_bytes(BATCH_ENTRIES, 0),
        [PART_BATCH] = zr_batch_bytes(BATCH_ENTRIES, ARENA_BYTES),
        [PART_GATE] = zr_gate_bytes(),
    };
    return zr_lay_out(sizeof(zr_agentlane), bytes, PARTS, at);
}

zr_agentlane_conf zr_agentlane_conf_default(uint32_t sessions_max)
{
    return (zr_agentlane_conf){ .sessions_max = sessions_max,
                                .pkts_max = 4096,
                                .batch = 16,
                                .gso = true,
                                .rate_idle = ZR_RATE_IDLE,
                                .rate_active = ZR_RATE_ACTIVE };
}

size_t zr_agentlane_bytes(const zr_agentlane_conf *conf)
{
    size_t at[PARTS];
    return lay_out(conf, at);
}

size_t zr_agentlane_context_bytes(const zr_agentlane_conf *conf)
{
    const zr_lane_conf lane = lane_conf(conf);
    return zr_lane_context_bytes(&lane);
}

zr_agentlane *zr_agentlane_init(void *mem, const zr_agentlane_conf *conf, zr_stat_page *page, zr_ns_t now)
{
    const zr_lane_conf lane = lane_conf(conf);
    size_t at[PARTS];
    uint8_t *base = mem;
    zr_agentlane *a = mem;

    if ((uintptr_t)mem % ZR_CACHELINE != 0 || conf->batch == 0)
        return NULL;
    lay_out(conf, at);
    *a = (zr_agentlane){ .conf = *conf, .page = page, .sock = { .fd = -1 }, .gate_mem = base + at[PART_GATE] };
    if (zr_pool_init(&a->pool, base + at[PART_POOL], conf->pkts_max) < 0 ||
        zr_batch_init(&a->batch, base + at[PART_BATCH], BATCH_ENTRIES, ARENA_BYTES) < 0)
        return NULL;
    a->lane = zr_lane_init(base + at[PART_LANE], &lane, &a->pool, page, now);
    a->rx = zr_udp_rx_init(base + at[PART_RX], conf->batch, ZR_UDP_AREA_BYTES, conf->calls);
    a->tx = zr_udp_tx_init(base + at[PART_TX], BATCH_ENTRIES, 0, conf->gso, conf->calls);
    if (a->lane == NULL)
        return NULL;
    if (a->rx == NULL || a->tx == NULL) {
        zr_lane_fini(a->lane);
        return NULL;
    }
    zr_stat_set(page, ZR_STAT_hello_queued_cap, ZR_HELLO_QUEUE);
    atomic_store_explicit(&page->started_ns, (uint64_t)now, memory_order_relaxed);
    atomic_store_explicit(&page->heartbeat_ns, (uint64_t)now, memory_order_relaxed);
    atomic_store_explicit(&page->pid, (uint64_t)getpid(), memory_order_release);
    return a;
}

void zr_agentlane_fini(zr_agentlane *a)
{
    zr_hello hello;

    while (zr_agentlane_hello(a, &hello) == ZR_OK)
        zr_pkt_drop(hello.pkt);
    if (a->gate != NULL)
        zr_gate_fini(a->gate);
    zr_batch_reset(&a->batch);
    zr_lane_fini(a->lane);
}

/* On loopback a source is an address with its port: several relays of one machine share the IP. */
static zr_ns_t *bucket_of(zr_agentlane *a, const zr_addr *from)
{
    static const zr_addr loopback6 = { .ip = { [15] = 1 }, .family = 6 };
    bool loopback = (from->family == 4 && from->ip[0] == 127) || zr_addr_same_ip(from, &loopback6);
    zr_addr source = *from;

    if (!loopback)
        source.port = 0;
    return &a->full_at[zr_addr_hash(&source) % SOURCES];
}

static int plain_input(zr_agentlane *a, size_t len, const zr_addr *from, zr_ns_t now, enum zr_drop_id *why)
{
    *why = len < ZR_HELLO_MIN || len > ZR_HELLO_MAX ? ZR_DROP_length : ZR_DROP_ratelimit;
    if (*why == ZR_DROP_length || !zr_rate_take(bucket_of(a, from), now, ZR_HELLO_EVERY, ZR_HELLO_BURST))
        return ZR_E_dropped;
    return ZR_OK;
}

static int sealed_input(zr_agentlane *a, const uint8_t *data, size_t len, const zr_addr *from, zr_ns_t now,
                        enum zr_drop_id *why)
{
    zr_gate_answer answer = { .why = ZR_DROP_mac1 };

    if (a->gate == NULL) { /* its keys could not be used: nobody can prove anything */
        *why = answer.why;
        return ZR_E_dropped;
    }
    zr_gate_queued(a->gate, a->count);
    int rc = zr_gate_input(a->gate, data, len, from, now, &answer);
    *why = answer.why;
    zr_stat_add(a->page, ZR_STAT_gate_former, answer.former);
    if (rc == ZR_E_dropped && answer.reply && a->replies < REPLIES) {
        a->reply[a->replies].to = *from;
        memcpy(a->reply[a->replies++].data, answer.cookie, ZR_GATE_COOKIE);
        zr_stat_add(a->page, ZR_STAT_gate_replies, 1);
    }
    return rc;
}

/* Judged where it lies: what a stranger sends is not copied. */
static int hello_input(zr_agentlane *a, const uint8_t *data, size_t len, const zr_addr *from, zr_ns_t now)
{
    enum zr_drop_id why;
    int rc = a->keyed ? sealed_input(a, data, len, from, now, &why) : plain_input(a, len, from, now, &why);

    if (rc < 0)
        return zr_ingest_link_lost(a->page, len, why);
    if (a->count == ZR_HELLO_QUEUE)
        return zr_ingest_link_lost(a->page, len, ZR_DROP_ratelimit);
    zr_pkt *pkt = zr_pool_copy(&a->pool, data, len);
    if (pkt == NULL)
        return zr_ingest_link_lost(a->page, len, ZR_DROP_link_pool);
    zr_stat_add(a->page, ZR_STAT_rx_link, 1);
    zr_stat_add(a->page, ZR_STAT_rx_link_bytes, len);
    zr_stat_add(a->page, ZR_STAT_link_accepted, 1);
    zr_stat_add(a->page, ZR_STAT_link_hello, 1);
    a->hellos[(a->first + a->count++) % ZR_HELLO_QUEUE] = (zr_hello){ .from = *from, .pkt = pkt };
    return ZR_OK;
}

static bool is_hello(const zr_agentlane *a, const uint8_t *data, size_t len)
{
    enum zr_env_type type;
    enum zr_drop_id why;

    if (zr_env_classify(data, len, &type, &why) < 0)
        return false;
    return type == ZR_ENV_HELLO || type == ZR_ENV_ANSWER || (type == ZR_ENV_COOKIE && a->keyed);
}

int zr_agentlane_input(zr_agentlane *a, const uint8_t *data, size_t len, bool truncated, const zr_addr *from,
                       zr_ns_t now)
{
    if (truncated || len > ZR_PKT_ROOM)
        return zr_ingest_link_lost(a->page, len, ZR_DROP_link_oversize);
    if (is_hello(a, data, len))
        return hello_input(a, data, len, from, now);
    zr_pkt *pkt = zr_pool_copy(&a->pool, data, len);
    if (pkt == NULL)
        return zr_ingest_link_lost(a->page, len, ZR_DROP_link_pool);
    zr_stat_add(a->page, ZR_STAT_rx_link, 1);
    zr_stat_add(a->page, ZR_STAT_rx_link_bytes, len);
    return zr_lane_input(a->lane, pkt, from, now);
}

int zr_agentlane_receive(zr_agentlane *a, int fd, zr_ns_t now)
{
    int count = 0, messages = (int)a->conf.batch;

    while (count < ZR_AGENT_DGRAMS && messages == (int)a->conf.batch) { /* fewer: the socket was empty */
        zr_udp_dgram dgram;
        messages = zr_udp_recv(a->rx, fd, a->page);
        while (zr_udp_next(a->rx, &dgram)) {
            (void)zr_agentlane_input(a, dgram.data, dgram.len, dgram.truncated, &dgram.from, now);
            count++;
        }
    }
    if (messages < (int)a->conf.batch) /* all is read: silence until now is silence, not our own absence */
        zr_lane_listened(a->lane, now);
    return count;
}

int zr_agentlane_hello(zr_agentlane *a, zr_hello *hello)
{
    if (a->count == 0)
        return ZR_E_again;
    *hello = a->hellos[a->first];
    a->first = (a->first + 1) % ZR_HELLO_QUEUE;
    a->count--;
    return ZR_OK;
}

uint32_t zr_agentlane_hellos_waiting(const zr_agentlane *a)
{
    return a->count;
}

int zr_agentlane_message(zr_agentlane *a, uint32_t *session, uint8_t to[ZR_MESSAGE_MAX])
{
    zr_lane_msg msg;
    int rc = zr_lane_recv(a->lane, &msg);

    if (rc < 0)
        return rc;
    *session = msg.session;
    return zr_lane_recv_bytes(a->lane, msg.conv, to, ZR_MESSAGE_MAX);
}

int zr_agentlane_refuse(zr_agentlane *a, enum zr_drop_id why)
{
    if ((unsigned)why >= ZR_DROP_COUNT || strcmp(zr_drop_infos[why].ledger, "link") != 0)
        return ZR_E_inval;
    zr_stat_add(a->page, ZR_STAT_link_accepted, UINT64_MAX); /* one less: counters wrap */
    zr_drop_add(a->page, why);
    return ZR_OK;
}

int zr_agentlane_gate_keys(zr_agentlane *a, const zr_gate_keys *keys)
{
    if (a->gate != NULL) {
        a->loads += zr_gate_loads(a->gate);
        zr_gate_fini(a->gate);
    }
    a->keyed = true;
    a->gate = zr_gate_init(a->gate_mem, keys);
    return a->gate == NULL ? ZR_E_os : ZR_OK;
}

void zr_agentlane_busy(zr_agentlane *a, uint32_t thousandths)
{
    if (a->gate != NULL)
        zr_gate_busy(a->gate, thousandths);
}

int zr_agentlane_session_add(zr_agentlane *a, uint32_t slot, const zr_session_conf *conf, zr_ns_t now)
{
    int rc = zr_lane_session_add(a->lane, slot, conf, now);

    if (rc < 0)
        return rc;
    rc = zr_lane_conv_open(a->lane, slot, CONTROL_CONV, ZR_LANE_AGENT, ZR_CONV_CONTROL, slot, now);
    if (rc < 0)
        (void)zr_lane_session_drop(a->lane, slot);
    return ZR_MIN(rc, ZR_OK);
}

int zr_agentlane_session_rekey(zr_agentlane *a, uint32_t slot, uint32_t index, uint32_t peer_index, const zr_keys *keys,
                               zr_ns_t now)
{
    return zr_lane_session_rekey(a->lane, slot, index, peer_index, keys, now);
}

bool zr_agentlane_rekey_wanted(zr_agentlane *a, uint32_t *slot, enum zr_rekey_why *why)
{
    return zr_lane_rekey_wanted(a->lane, slot, why);
}

bool zr_agentlane_violations(zr_agentlane *a, uint32_t *slot, uint32_t *count)
{
    return zr_lane_violations(a->lane, slot, count);
}

int zr_agentlane_session_active(zr_agentlane *a, uint32_t slot, bool active, zr_ns_t now)
{
    return zr_lane_session_set_active(a->lane, slot, active, now);
}

const zr_probe *zr_agentlane_probe(const zr_agentlane *a, uint32_t slot)
{
    return zr_lane_session_probe(a->lane, slot);
}

int zr_agentlane_heard_elsewhere(zr_agentlane *a, uint32_t slot, zr_ns_t when, zr_ns_t now)
{
    return zr_lane_session_heard_at(a->lane, slot, when, now);
}

int zr_agentlane_probed(zr_agentlane *a, uint32_t *slot)
{
    return zr_lane_probed(a->lane, slot);
}

int zr_agentlane_session_paths(zr_agentlane *a, uint32_t slot, const zr_addr *addrs, uint32_t count, zr_ns_t now)
{
    return zr_lane_session_set_paths(a->lane, slot, addrs, count, now);
}

const zr_paths *zr_agentlane_paths(const zr_agentlane *a, uint32_t slot)
{
    return zr_lane_session_paths(a->lane, slot);
}

int zr_agentlane_session_drop(zr_agentlane *a, uint32_t slot)
{
    return zr_lane_session_drop(a->lane, slot);
}

int zr_agentlane_send(zr_agentlane *a, uint32_t slot, const uint8_t *data, size_t len, zr_ns_t now)
{
    int conv = zr_lane_conv_find(a->lane, slot, CONTROL_CONV);
    return conv < 0 ? conv : zr_lane_send_bytes(a->lane, (uint32_t)conv, data, len, now);
}

zr_ns_t zr_agentlane_heard(const zr_agentlane *a, uint32_t slot)
{
    return zr_lane_session_heard(a->lane, slot);
}

uint32_t zr_agentlane_index(const zr_agentlane *a, uint32_t slot)
{
    return zr_lane_session_index(a->lane, slot);
}

uint32_t zr_agentlane_rtt_us(const zr_agentlane *a, uint32_t slot)
{
    return zr_lane_session_rtt_us(a->lane, slot);
}

int zr_agentlane_estimated(const zr_agentlane *a, uint32_t slot, zr_kcp_estimates *estimates, uint64_t *sent)
{
    int conv = zr_lane_conv_find(a->lane, slot, CONTROL_CONV);

    if (conv < 0)
        return conv;
    *sent = zr_lane_conv_counted(a->lane, (uint32_t)conv)->segs_sent;
    return zr_lane_conv_estimated(a->lane, (uint32_t)conv, estimates);
}

zr_ns_t zr_agentlane_deadline(const zr_agentlane *a)
{
    return a->replies > 0 ? 0 : zr_lane_deadline(a->lane);
}

/* As many as fit. */
static void output_replies(zr_agentlane *a)
{
    while (a->replies > 0) {
        uint8_t *to = zr_batch_reserve(&a->batch, ZR_GATE_COOKIE);
        if (to == NULL)
            return;
        a->replies--;
        memcpy(to, a->reply[a->replies].data, ZR_GATE_COOKIE);
        zr_batch_commit(&a->batch, &a->reply[a->replies].to, ZR_SOCK_LINK, ZR_GATE_COOKIE);
    }
}

static void set_gauges(zr_agentlane *a, zr_ns_t now)
{
    zr_stat_set(a->page, ZR_STAT_pool_in_use, a->pool.in_use);
    zr_stat_set(a->page, ZR_STAT_pool_in_use_max, a->pool.in_use_max);
    zr_stat_set(a->page, ZR_STAT_pool_exhausted, a->pool.exhausted);
    zr_stat_set(a->page, ZR_STAT_hello_queued, a->count);
    if (a->gate == NULL)
        return;
    zr_stat_set(a->page, ZR_STAT_gate_loaded, zr_gate_loaded(a->gate, now));
    zr_stat_set(a->page, ZR_STAT_gate_loads, a->loads + zr_gate_loads(a->gate));
    zr_stat_set(a->page, ZR_STAT_gate_overlap, zr_gate_overlap(a->gate, now));
}

int zr_agentlane_output(zr_agentlane *a, zr_ns_t now)
{
    zr_lane_on_deadline(a->lane, now);
    set_gauges(a, now);
    output_replies(a);
    atomic_store_explicit(&a->page->heartbeat_ns, (uint64_t)now, memory_order_relaxed);
    return zr_lane_output(a->lane, &a->batch, now);
}

zr_batch *zr_agentlane_batch(zr_agentlane *a)
{
    return &a->batch;
}

/* What the kernel dropped because its buffer was full. */
static void look(zr_agentlane *a, zr_ns_t now)
{
    zr_udp_memory memory;

    if (now < a->look_at)
        return;
    a->look_at = now + LOOK_EVERY;
    if (zr_udp_meminfo(a->sock.fd, &memory) != ZR_OK)
        return;
    zr_stat_add(a->page, ZR_STAT_rx_lost_link, memory.lost - a->sock.lost);
    a->sock.lost = memory.lost;
    zr_stat_set(a->page, ZR_STAT_link_rcvbuf, memory.rcvbuf);
    zr_stat_set(a->page, ZR_STAT_link_sndbuf, memory.sndbuf);
}

/* The probe of a size in use is as long as anything that a worker sends there. */
static void tell_oversize(zr_agentlane *a, zr_ns_t now)
{
    zr_addr to;
    uint32_t bytes;

    while (zr_udp_tx_oversize(a->tx, &to, &bytes))
        zr_lane_on_oversize(a->lane, &to, bytes, now);
}

void zr_agentlane_flush(zr_agentlane *a, int fd, zr_ns_t now)
{
    int rc;

    if (a->sock.fd != fd) {
        zr_addr own;
        rc = zr_udp_sock_of(&a->sock, fd);
        ZR_CHECK(rc == ZR_OK);
        if (zr_udp_bound(fd, &own) == ZR_OK)
            zr_lane_set_own(a->lane, &own);
    }
    look(a, now);
    do {
        rc = zr_agentlane_output(a, now);
        ZR_CHECK(rc == ZR_OK || a->batch.count > 0);
        if (zr_udp_send(a->tx, &a->sock, 1, &a->batch, a->page, now) != ZR_OK)
            zr_udp_tx_give_up(a->tx, a->page); /* KCP sends it again */
        tell_oversize(a, now);
        zr_batch_reset(&a->batch);
    } while (rc == ZR_E_full);
}

bool zr_agentlane_check(const zr_agentlane *a)
{
    return zr_lane_check(a->lane) && zr_pool_check(&a->pool) && a->count <= ZR_HELLO_QUEUE && a->replies <= REPLIES;
}
