/* floors: ring */
typedef struct zr_spsc_mem zr_spsc_mem;
typedef struct zr_spsc {
    ...;
} zr_spsc;

size_t zr_spsc_bytes(uint32_t slots, uint32_t slot_bytes);
int zr_spsc_init(zr_spsc *ring, zr_spsc_mem *mem, uint32_t slots, uint32_t slot_bytes, uint32_t start);
void *zr_spsc_claim(zr_spsc *ring);
void zr_spsc_commit(zr_spsc *ring);
const void *zr_spsc_peek(zr_spsc *ring);
void zr_spsc_release(zr_spsc *ring);
uint32_t zr_spsc_depth(const zr_spsc *ring);
bool zr_spsc_check(const zr_spsc *ring);
