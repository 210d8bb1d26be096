/*
 * zr_map.h - u64 key -> u32 value, open addressing, linear probing, backward-shift deletion; no tombstones, no growth.
 *
 * Sized at start to at least twice `max` entries, so a look-up touches one or two cache lines. Keys are mixed inside;
 * any u64 is a legal key. ~0u is not a legal value.
 */
#ifndef ZR_MAP_H
#define ZR_MAP_H

#include "base/zr_base.h"

#define ZR_MAP_NONE UINT32_MAX

typedef struct zr_map_cell {
    uint64_t key;
    uint32_t value; /* ZR_MAP_NONE: empty */
    uint32_t pad;
} zr_map_cell;

typedef struct zr_map {
    zr_map_cell *cells;
    uint32_t mask;
    uint32_t count, max;
} zr_map;

size_t zr_map_bytes(uint32_t max);
int zr_map_init(zr_map *map, void *mem, uint32_t max);

/* The value, or ZR_MAP_NONE. */
uint32_t zr_map_get(const zr_map *map, uint64_t key);
/* ZR_OK; ZR_E_exists (unchanged) when the key is there; ZR_E_full at `max`. */
int zr_map_put(zr_map *map, uint64_t key, uint32_t value);
/* The value that was there, or ZR_MAP_NONE. */
uint32_t zr_map_del(zr_map *map, uint64_t key);
bool zr_map_check(const zr_map *map);

#endif
