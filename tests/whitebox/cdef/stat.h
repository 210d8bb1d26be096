/* floors: stat */
typedef struct zr_stat_page zr_stat_page;

typedef struct zr_stat_info { const char *name, *kind, *unit, *help; } zr_stat_info;
typedef struct zr_drop_info { const char *name, *ledger, *word, *help; } zr_drop_info;

#define ZR_STAT_COUNT ...
#define ZR_DROP_COUNT ...
#define ZR_HIST_COUNT ...
#define ZR_LEDGER_COUNT ...
#define ZR_HIST_BUCKETS ...

enum zr_ledger { ZR_LEDGER_link, ZR_LEDGER_media, ZR_LEDGER_fan, ZR_LEDGER_egress, ... };

size_t zr_stat_bytes(uint32_t streams_max);
int zr_stat_init(zr_stat_page *page, uint32_t streams_max);
int zr_stat_attach(zr_stat_page *page, size_t bytes);
uint32_t zr_hist_bucket(uint64_t value);
uint64_t zr_hist_floor(uint32_t bucket);
int64_t zr_ledger_off(const zr_stat_page *page, enum zr_ledger ledger);

/* `shim/stat.c`: ids as plain numbers, words read whole. */
void wb_stat_add(zr_stat_page *page, int id, uint64_t by);
void wb_drop_add(zr_stat_page *page, int id);
void wb_hist_add(zr_stat_page *page, int id, uint64_t value);
uint64_t wb_stat(const zr_stat_page *page, int id);
uint64_t wb_drop(const zr_stat_page *page, int id);
uint64_t wb_hist(const zr_stat_page *page, int id, uint32_t bucket);
const zr_stat_info *wb_stat_info(int id);
const zr_drop_info *wb_drop_info(int id);
const zr_stat_info *wb_hist_info(int id);
