/* floors: kcp */
enum zr_kcp_profile { ZR_KCP_COMPAT, ZR_KCP_MEDIA };

#define ZR_DROP_kcp_cmd ...
#define ZR_DROP_kcp_len ...
#define ZR_DROP_kcp_una ...
#define ZR_DROP_kcp_ack ...
#define ZR_DROP_kcp_frg ...

typedef struct zr_kcp_plan zr_kcp_plan;

typedef struct zr_kcp_conf {
    uint32_t conv, mtu, snd_wnd, rcv_wnd, start_sn;
    uint16_t interval_ms;
    uint8_t nodelay, resend, nc, stream, fragments_max;
    uint16_t deadline_ms;
    uint8_t profile;
    bool conservative, in_order, harden;
    const zr_kcp_plan *plan;
    ...;
} zr_kcp_conf;

typedef struct zr_kcp_counts {
    uint64_t segs_sent, retrans_timeout, retrans_fast, segs_received, duplicates, acks_sent, window_drops;
    uint64_t copies, spurious, expired, holes, late, conflict, ack_ts;
    ...;
} zr_kcp_counts;

typedef struct zr_kcp_estimates {
    uint32_t srtt_ms, timer_ms, queue_ms, loss_ppm, inbound_ppm, rate_kbps;
    bool full, dark;
    zr_ns_t heard;
    ...;
} zr_kcp_estimates;

typedef struct wb_kcp_words {
    uint32_t state, snd_una, snd_nxt, rcv_nxt, ssthresh, rmt_wnd, cwnd, incr, probe, ts_flush, ts_probe, probe_wait;
    uint32_t rto, nrcv_buf, nrcv_que, nsnd_que, timeouts;
    int32_t srtt, rttvar;
} wb_kcp_words;

/* `shim/kcp.c`: one conversation with a pool, blocks and a batch of its own. */
typedef struct wb_kcp wb_kcp;

zr_kcp_conf zr_kcp_conf_compat(uint32_t conv);
zr_kcp_conf zr_kcp_conf_media(uint32_t conv);
zr_kcp_conf zr_kcp_conf_control(uint32_t conv);
wb_kcp *wb_kcp_new(const zr_kcp_conf *conf, uint32_t packets, uint32_t blocks, uint32_t datagrams, zr_ns_t now);
/* What is still out of the pools after the conversation's end: 0, or packets + blocks, or -1 for a broken pool. */
int64_t wb_kcp_free(wb_kcp *end);
int wb_kcp_send(wb_kcp *end, const uint8_t *data, size_t len, zr_ns_t now);
/* The body in a packet of its own, the head inline. */
int wb_kcp_send_view(wb_kcp *end, const uint8_t *head, size_t head_len, const uint8_t *body, size_t len, zr_ns_t now);
/* The same with a deadline of its own. */
int wb_kcp_send_within(wb_kcp *end, const uint8_t *head, size_t head_len, const uint8_t *body, size_t len,
                       uint16_t deadline_ms, zr_ns_t now);
/* The plan of copies that a node has by default: residual 1e-6, at most 6 transmissions a segment. */
const zr_kcp_plan *wb_kcp_plan(void);
/* A whole datagram, judged, then applied: ZR_OK, or ZR_E_malformed with *drop set and nothing applied. */
int wb_kcp_input(wb_kcp *end, const uint8_t *data, size_t len, zr_ns_t now, int *drop);
/* The same as a stock engine does it: what comes before a bad segment stays applied, what follows a whole datagram is
 * left out. */
int wb_kcp_input_stock(wb_kcp *end, const uint8_t *data, size_t len, zr_ns_t now);
int wb_kcp_recv(wb_kcp *end, uint8_t *to, size_t size);
void wb_kcp_on_deadline(wb_kcp *end, zr_ns_t now);
void wb_kcp_flush(wb_kcp *end);
/* Fills the batch anew; `runs` packs as between our relays. 0, or ZR_E_full: read the datagrams and call again. */
int wb_kcp_output(wb_kcp *end, bool runs, zr_ns_t now);
uint32_t wb_kcp_datagrams(const wb_kcp *end);
const uint8_t *wb_kcp_datagram(const wb_kcp *end, uint32_t i, size_t *len);
zr_ns_t wb_kcp_deadline(const wb_kcp *end);
bool wb_kcp_due(const wb_kcp *end, zr_ns_t now);
uint32_t wb_kcp_waiting(const wb_kcp *end);
bool wb_kcp_check(const wb_kcp *end);
uint32_t wb_kcp_packets(const wb_kcp *end);
uint32_t wb_kcp_blocks(const wb_kcp *end);
wb_kcp_words wb_kcp_state(const wb_kcp *end);
zr_kcp_counts wb_kcp_counted(const wb_kcp *end);
zr_kcp_estimates wb_kcp_estimated(const wb_kcp *end);
/* ms of the time-out that nothing acknowledged would wait for now: compat's RTO, media's timer. */
uint32_t wb_kcp_timer_ms(const wb_kcp *end);
/* Acknowledgements remembered: still to be sent, or, media, to be sent again. */
uint32_t wb_kcp_owed(const wb_kcp *end);
/* Segments held for recv or for what is missing. */
uint32_t wb_kcp_held(const wb_kcp *end);
/* Behind the highest number that arrived. */
uint32_t wb_kcp_rcv_top(const wb_kcp *end);
