/* floors: mem, stat, time, coll, wire, kcp, forward */
typedef struct zr_lane zr_lane;
typedef struct zr_pool zr_pool;
typedef struct zr_batch zr_batch;
typedef struct zr_stat_page zr_stat_page;

typedef struct zr_lane_conf {
    uint8_t lane;
    uint16_t epoch;
    uint32_t sessions_max;
    uint32_t convs_max;
    uint32_t peer_lanes_max;
    uint32_t blocks_max;
    uint32_t window;
    uint16_t deadline_ms;
    double residual, max_overhead;
    uint32_t ciphers, keys_max;
    zr_addr own;
    ...;
} zr_lane_conf;

typedef struct zr_keys {
    uint8_t cipher;
    bool initiator;
    uint8_t send[32], recv[32];
    uint32_t age_ms;
} zr_keys;

typedef struct zr_session_conf {
    uint32_t index, peer_index;
    zr_addr agent;
    uint8_t lanes;
    uint16_t mtu;
    uint32_t rate_mhz;
    zr_keys keys;
} zr_session_conf;

enum zr_conv_kind { ZR_CONV_CONTROL, ZR_CONV_MEDIA };

#define ZR_LANE_ANY ...
#define ZR_NEVER ...

size_t zr_lane_bytes(const zr_lane_conf *conf);
zr_lane *zr_lane_init(void *mem, const zr_lane_conf *conf, zr_pool *pool, zr_stat_page *page, zr_ns_t now);
void zr_lane_fini(zr_lane *lane);
int zr_lane_session_add(zr_lane *lane, uint32_t slot, const zr_session_conf *conf, zr_ns_t now);
int zr_lane_session_drop(zr_lane *lane, uint32_t slot);
int zr_lane_conv_open(zr_lane *lane, uint32_t session, uint32_t conv, uint8_t peer_lane, enum zr_conv_kind kind,
                      uint32_t user, zr_ns_t now);
int zr_lane_conv_find(const zr_lane *lane, uint32_t session, uint32_t conv);
void zr_lane_conv_close(zr_lane *lane, uint32_t conv);
zr_ns_t zr_lane_deadline(const zr_lane *lane);
void zr_lane_on_deadline(zr_lane *lane, zr_ns_t now);
int zr_lane_output(zr_lane *lane, zr_batch *batch, zr_ns_t now);
bool zr_lane_check(const zr_lane *lane);

#define ZR_STAT_kcp_expired ...
/* `shim/lane.c`: one datagram, counted as the caller must. */
int wb_lane_input(zr_lane *lane, zr_pool *pool, zr_stat_page *page, const zr_addr *from, const uint8_t *data,
                  size_t len, zr_ns_t now);
/* A message of 16 + len bytes that carries `number`. */
int wb_lane_send(zr_lane *lane, zr_pool *pool, uint32_t conv, uint32_t number, uint32_t len, zr_ns_t now);
/* The next message: whose it is, its number, its length less 16; ZR_E_malformed when a byte of it is wrong. */
int wb_lane_recv(zr_lane *lane, uint32_t *user, uint32_t *number, uint32_t *len);
