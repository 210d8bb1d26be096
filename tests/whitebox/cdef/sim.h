/* floors: sim */
typedef struct zr_simlink_conf {
    zr_ns_t delay, jitter;
    double loss, burst, dup, reorder;
    uint64_t rate_bps;
    uint32_t queue_bytes, packets_max;
    uint64_t seed;
} zr_simlink_conf;

typedef struct zr_simlink_counts {
    uint64_t in, lost, queue_dropped, overflow, duplicated, reordered, out;
} zr_simlink_counts;

typedef struct zr_simlink zr_simlink;

#define ZR_SIMLINK_LEN_MAX ...

size_t zr_simlink_bytes(const zr_simlink_conf *conf);
int zr_simlink_init(zr_simlink *link, const zr_simlink_conf *conf);
int zr_simlink_put(zr_simlink *link, const void *data, size_t len, uint64_t tag, zr_ns_t now);
zr_ns_t zr_simlink_deadline(const zr_simlink *link);
int zr_simlink_get(zr_simlink *link, const uint8_t **data, uint64_t *tag, zr_ns_t now);
const zr_simlink_counts *zr_simlink_counted(const zr_simlink *link);
bool zr_simlink_check(const zr_simlink *link);
