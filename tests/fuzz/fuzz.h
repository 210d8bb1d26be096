/*
 * fuzz.h - what the fuzz targets share. An input is a row of records, each a 16-bit little-endian length and its bytes;
 * a length that passes the end means the rest. The entry point is libFuzzer's, so the same targets serve there.
 */
#ifndef ZR_FUZZ_H
#define ZR_FUZZ_H

#include <stdlib.h>
#include <string.h>

#include "base/zr_base.h"
#include "base/zr_bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The next record, copied to memory of exactly its size so that a sanitizer sees any read beyond it; NULL at the end.
 */
static inline uint8_t *fuzz_record(const uint8_t **data, size_t *size, size_t *len)
{
    if (*size < 2)
        return NULL;
    *len = ZR_MIN((size_t)zr_get16(*data), *size - 2);
    uint8_t *copy = malloc(*len > 0 ? *len : 1);
    ZR_CHECK(copy != NULL);
    if (*len > 0)
        memcpy(copy, *data + 2, *len);
    *data += 2 + *len;
    *size -= 2 + *len;
    return copy;
}

#endif
