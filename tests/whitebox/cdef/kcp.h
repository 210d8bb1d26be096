/* floors: kcp */
typedef struct zr_kcp_conf {
    uint32_t conv, mtu, snd_wnd, rcv_wnd, start_sn;
    uint16_t interval_ms;
    uint8_t nodelay, resend, nc, stream, fragments_max;
    bool flush_at_once, conservative, harden;
    ...;
} zr_kcp_conf;

typedef struct zr_kcp_counts {
    uint64_t segs_sent, retrans_timeout, retrans_fast, segs_received, duplicates, acks_sent, window_drops;
} zr_kcp_counts;

typedef struct wb_kcp_words {
    uint32_t state, snd_una, snd_nxt, rcv_nxt, ssthresh, rmt_wnd, cwnd, incr, probe, ts_flush, ts_probe, probe_wait;
    uint32_t rto, nrcv_que, nsnd_que, timeouts;
    int32_t srtt, rttvar;
} wb_kcp_words;

/* `shim/kcp.c`: one conversation with a pool, blocks and a batch of its own. */
typedef struct wb_kcp wb_kcp;

zr_kcp_conf zr_kcp_conf_turbo(uint32_t conv);
wb_kcp *wb_kcp_new(const zr_kcp_conf *conf, uint32_t packets, uint32_t blocks, uint32_t datagrams, zr_ns_t now);
/* What is still out of the pools after the conversation's end: 0, or packets + blocks, or -1 for a broken pool. */
int64_t wb_kcp_free(wb_kcp *end);
int wb_kcp_send(wb_kcp *end, const uint8_t *data, size_t len, zr_ns_t now);
/* The body in a packet of its own, the head inline. */
int wb_kcp_send_view(wb_kcp *end, const uint8_t *head, size_t head_len, const uint8_t *body, size_t len, zr_ns_t now);
/* A whole datagram, judged, then applied: ZR_OK, or ZR_E_malformed with *drop set and nothing applied. */
int wb_kcp_input(wb_kcp *end, const uint8_t *data, size_t len, zr_ns_t now, int *drop);
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
