/* floors: base, probe */
typedef struct zr_path_share {
    uint64_t all_expected, all_received;
    ...;
} zr_path_share;

typedef struct zr_path {
    uint32_t expected, received;
    uint64_t reordered;
    zr_path_share in, out;
    uint32_t samples, srtt_us, rtt_min_us;
    ...;
} zr_path;

void zr_path_init(zr_path *path, int64_t now);
void zr_path_on_counter(zr_path *path, uint32_t run, uint64_t counter, int64_t now);
void zr_path_on_clock(zr_path *path, int64_t left, int64_t now);
bool zr_path_answer_ok(int64_t sent, int64_t came, int64_t left, int64_t now);
void zr_path_on_answer(zr_path *path, int64_t sent, int64_t came, int64_t left, int64_t now);
void zr_path_on_told(zr_path *path, uint32_t expected, uint32_t received, uint32_t run, int64_t now);
double zr_path_loss(const zr_path_share *share);
uint32_t zr_path_longest(const zr_path *path, int64_t now);
int64_t zr_path_queue_in(const zr_path *path);
int64_t zr_path_queue_out(const zr_path *path);
void zr_path_delays(const zr_path *path, int64_t offset, double drift_ppm, int64_t now, int64_t *in, int64_t *out,
                    int64_t *error);
bool zr_path_offset(const zr_path *path, int64_t now, int64_t *offset, double *drift_ppm);
bool zr_path_check(const zr_path *path);
