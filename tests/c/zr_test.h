/*
 * zr_test.h - table tests in one binary. A test is a sentence; it registers itself.
 *
 *     ZR_TEST(a_full_ring_refuses_to_claim)
 *     {
 *         CHECK(zr_spsc_claim(ring) == NULL);
 *         CHECK_EQ(zr_spsc_depth(ring), 4);
 *     }
 *
 * A failed CHECK prints its place and ends the test, the others go on. `ctest [substring]` runs a part.
 */
#ifndef ZR_TEST_H
#define ZR_TEST_H

#include <inttypes.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct zr_test {
    const char *name, *file;
    void (*run)(void);
    struct zr_test *next;
} zr_test;

void zr_test_register(zr_test *test);
_Noreturn void zr_test_fail(const char *file, int line, const char *what);

#define ZR_TEST(sentence)                                                                                              \
    static void sentence(void);                                                                                        \
    static zr_test zr_test_of_##sentence = { #sentence, __FILE__, sentence, NULL };                                    \
    __attribute__((constructor)) static void zr_register_##sentence(void)                                              \
    {                                                                                                                  \
        zr_test_register(&zr_test_of_##sentence);                                                                      \
    }                                                                                                                  \
    static void sentence(void)

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            zr_test_fail(__FILE__, __LINE__, #condition);                                                              \
    } while (0)

#define CHECK_EQ(got, want)                                                                                            \
    do {                                                                                                               \
        long long got_ = (long long)(got), want_ = (long long)(want);                                                  \
        if (got_ != want_) {                                                                                           \
            fprintf(stderr, "  %s is %lld, not %lld\n", #got, got_, want_);                                            \
            zr_test_fail(__FILE__, __LINE__, #got " == " #want);                                                       \
        }                                                                                                              \
    } while (0)

/* Memory of at least `bytes`, aligned to a cache line; freed by the caller. */
static inline void *zr_test_memory(size_t bytes)
{
    void *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (memory == NULL)
        abort();
    memset(memory, 0, (bytes + 63) / 64 * 64);
    return memory;
}

#endif
