/*
 * zr_lists.h - for the binding only: the lists that no floor needs as a table, and memory of its own.
 */
#ifndef ZR_LISTS_H
#define ZR_LISTS_H

#include "base/zr_err.h"
#include "forward/zr_cmd.h"
#include "stat/zr_stat.h"
#include "wire/zr_codec.h"

enum { ZR_RECORD_BYTES = sizeof(zr_cmd), ZR_ADDR_BYTES = sizeof(zr_addr) };

enum zr_err_index {
#define X(name, value, text) ZR_ERR_INDEX_##name,
    ZR_ERR_LIST(X)
#undef X
        ZR_ERR_COUNT
};

typedef struct zr_err_info {
    const char *name, *text;
    int value;
} zr_err_info;

typedef struct zr_codec_info {
    const char *word, *rtpmap;
} zr_codec_info;

extern const zr_err_info zr_err_infos[ZR_ERR_COUNT];
extern const zr_codec_info zr_codec_infos[ZR_CODEC_COUNT];
extern const char *const zr_ledger_names[ZR_LEDGER_COUNT];

/* Zeroed memory of this process, page-aligned; touched pages only cost. NULL when there is none. zr_shm_unmap ends it.
 * No core has it: there are secrets of sessions in it. */
void *zr_memory_open(size_t bytes);

#endif
