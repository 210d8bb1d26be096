/* floors: coll */
#define ZR_MAP_NONE 4294967295

typedef struct zr_map {
    uint32_t mask;
    uint32_t count, max;
    ...;
} zr_map;

size_t zr_map_bytes(uint32_t max);
int zr_map_init(zr_map *map, void *mem, uint32_t max);
uint32_t zr_map_get(const zr_map *map, uint64_t key);
int zr_map_put(zr_map *map, uint64_t key, uint32_t value);
uint32_t zr_map_del(zr_map *map, uint64_t key);
bool zr_map_check(const zr_map *map);
