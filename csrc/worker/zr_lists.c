#include "worker/zr_lists.h"

#include <sys/mman.h>
#include <unistd.h>

const zr_err_info zr_err_infos[ZR_ERR_COUNT] = {
#define X(name, value, text) { #name, text, value },
    ZR_ERR_LIST(X)
#undef X
};

const zr_codec_info zr_codec_infos[ZR_CODEC_COUNT] = {
#define X(id, word, rtpmap) { word, rtpmap },
    ZR_CODEC_LIST(X)
#undef X
};

const char *const zr_ledger_names[ZR_LEDGER_COUNT] = {
    [ZR_LEDGER_link] = "link",
    [ZR_LEDGER_media] = "media",
    [ZR_LEDGER_fan] = "fan",
    [ZR_LEDGER_egress] = "egress",
};

void *zr_memory_open(size_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

void zr_memory_huge(void *at, size_t bytes)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t from = ((uintptr_t)at + page - 1) / page * page, to = ((uintptr_t)at + bytes) / page * page;

    if (to > from)
        (void)madvise((void *)from, to - from, MADV_HUGEPAGE);
}
