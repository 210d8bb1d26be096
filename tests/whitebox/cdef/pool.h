/* floors: mem */
typedef struct zr_pool zr_pool;

typedef struct zr_pkt {
    uint8_t *buf;
    zr_pool *pool;
    uint32_t refs;
    uint16_t off, len;
    ...;
} zr_pkt;

typedef struct zr_slice {
    zr_pkt *pkt;
    uint16_t off, len;
} zr_slice;

struct zr_pool {
    uint32_t count, in_use, in_use_max;
    uint64_t exhausted;
    ...;
};

typedef struct zr_tx {
    zr_addr to;
    uint16_t sock;
    uint16_t len;
    const uint8_t *data;
    zr_pkt *held;
    ...;
} zr_tx;

typedef struct zr_batch {
    zr_tx *tx;
    uint8_t *arena;
    uint32_t count, cap;
    uint32_t arena_len, arena_cap;
    ...;
} zr_batch;

#define ZR_PKT_BYTES ...
#define ZR_PKT_HEAD ...
#define ZR_PKT_ROOM ...
#define ZR_SOCK_LINK 0
#define ZR_SOCK_EGRESS 1
#define ZR_SOCK_INGRESS 2

size_t zr_pool_bytes(uint32_t count);
int zr_pool_init(zr_pool *pool, void *mem, uint32_t count);
zr_pkt *zr_pool_take(zr_pool *pool);
zr_pkt *zr_pool_copy(zr_pool *pool, const void *data, size_t len);
void zr_pkt_hold(zr_pkt *pkt);
void zr_pkt_drop(zr_pkt *pkt);
bool zr_pool_check(const zr_pool *pool);

size_t zr_batch_bytes(uint32_t cap, uint32_t arena_cap);
int zr_batch_init(zr_batch *batch, void *mem, uint32_t cap, uint32_t arena_cap);
bool zr_batch_fits(const zr_batch *batch, size_t len);
uint8_t *zr_batch_reserve(zr_batch *batch, size_t len);
void zr_batch_commit(zr_batch *batch, const zr_addr *to, uint16_t sock, size_t len);
int zr_batch_hold(zr_batch *batch, const zr_addr *to, uint16_t sock, const zr_slice *slice);
void zr_batch_reset(zr_batch *batch);
