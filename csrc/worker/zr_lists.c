#include "worker/zr_lists.h"

#include <sys/mman.h>

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
    if (at == MAP_FAILED)
        return NULL;
    (void)madvise(at, bytes, MADV_DONTDUMP); /* lanes hold secrets; best effort */
    return at;
}
