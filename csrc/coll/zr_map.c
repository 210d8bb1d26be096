#include "coll/zr_map.h"

#include "base/zr_err.h"

#define MAX_ENTRIES (1u << 30)

/* Neighbouring keys (stream slots, indexes) must not become neighbouring cells: that is how probing degrades. */
static uint64_t mixed(uint64_t key)
{
    key ^= key >> 32;
    key *= 0xD6E8FEB86659FD93u;
    key ^= key >> 32;
    key *= 0xD6E8FEB86659FD93u;
    return key ^ (key >> 32);
}

static uint32_t home(const zr_map *map, uint64_t key)
{
    return (uint32_t)mixed(key) & map->mask;
}

/* The key's cell, or the empty one where it would go. There is one: at least half of the cells are empty. */
static uint32_t seek(const zr_map *map, uint64_t key)
{
    uint32_t i = home(map, key);

    while (map->cells[i].value != ZR_MAP_NONE && map->cells[i].key != key)
        i = (i + 1) & map->mask;
    return i;
}

static uint32_t cells_for(uint32_t max)
{
    return zr_pow2_up(2 * max);
}

size_t zr_map_bytes(uint32_t max)
{
    if (max == 0 || max > MAX_ENTRIES)
        return 0;
    return cells_for(max) * sizeof(zr_map_cell);
}

int zr_map_init(zr_map *map, void *mem, uint32_t max)
{
    if (max == 0 || max > MAX_ENTRIES || (uintptr_t)mem % alignof(zr_map_cell) != 0)
        return ZR_E_inval;
    *map = (zr_map){ .cells = mem, .mask = cells_for(max) - 1, .max = max };
    for (uint32_t i = 0; i <= map->mask; i++)
        map->cells[i] = (zr_map_cell){ .value = ZR_MAP_NONE };
    return ZR_OK;
}

uint32_t zr_map_get(const zr_map *map, uint64_t key)
{
    return map->cells[seek(map, key)].value;
}

int zr_map_put(zr_map *map, uint64_t key, uint32_t value)
{
    if (value == ZR_MAP_NONE)
        return ZR_E_inval;

    zr_map_cell *cell = &map->cells[seek(map, key)];
    if (cell->value != ZR_MAP_NONE)
        return ZR_E_exists;
    if (map->count == map->max)
        return ZR_E_full;
    *cell = (zr_map_cell){ .key = key, .value = value };
    map->count++;
    return ZR_OK;
}

uint32_t zr_map_del(zr_map *map, uint64_t key)
{
    uint32_t hole = seek(map, key);
    uint32_t value = map->cells[hole].value;

    if (value == ZR_MAP_NONE)
        return ZR_MAP_NONE;
    /* Close the gap: an entry further on moves into the hole when its probe sequence from home passes the hole. */
    for (uint32_t i = (hole + 1) & map->mask; map->cells[i].value != ZR_MAP_NONE; i = (i + 1) & map->mask) {
        uint32_t from_home = (i - home(map, map->cells[i].key)) & map->mask;
        uint32_t from_hole = (i - hole) & map->mask;
        if (from_home >= from_hole) {
            map->cells[hole] = map->cells[i];
            hole = i;
        }
    }
    map->cells[hole] = (zr_map_cell){ .value = ZR_MAP_NONE };
    map->count--;
    return value;
}

bool zr_map_check(const zr_map *map)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i <= map->mask; i++)
        count += map->cells[i].value != ZR_MAP_NONE;
    /* First the count: it promises the empty cells without which seek would not end. */
    if (count != map->count || count > map->max || (uint64_t)map->max * 2 > (uint64_t)map->mask + 1)
        return false;
    /* Every entry is the one that a look-up of its key finds: reachable, and there once. */
    for (uint32_t i = 0; i <= map->mask; i++)
        if (map->cells[i].value != ZR_MAP_NONE && seek(map, map->cells[i].key) != i)
            return false;
    return true;
}
