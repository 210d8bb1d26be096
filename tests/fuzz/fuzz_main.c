/*
 * Replays a corpus and mutations of it: the same ones for the same seed.
 *
 *     TARGET MUTATIONS|SECONDSs SEED FILE...
 *
 * With "30s" as many mutations as fit into 30 seconds: always the same row, cut off where the time is over.
 *
 * A file holds one input as text: a record a line in hexadecimal, blanks and "# comments" ignored. When something
 * aborts, the input is printed in that form, ready to be kept as a file.
 */
#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "fuzz.h"
#include "sim/zr_rng.h"

#define INPUT_MAX  16384u
#define CORPUS_MAX 256u

typedef struct input {
    size_t size;
    uint8_t data[INPUT_MAX];
} input;

static input corpus[CORPUS_MAX], current;
static size_t corpus_count;

static int hex_value(int c)
{
    return isdigit(c) ? c - '0' : isxdigit(c) ? tolower(c) - 'a' + 10 : -1;
}

static void add_line(input *to, const char *line)
{
    size_t start = to->size;
    int high = -1;

    for (const char *at = line; *at != '\0' && *at != '#'; at++) {
        int value = hex_value((unsigned char)*at);
        if (value < 0)
            continue;
        if (high < 0) {
            high = value;
            if (to->size == start)
                to->size += 2;
            continue;
        }
        ZR_CHECK(to->size < INPUT_MAX);
        to->data[to->size++] = (uint8_t)(high << 4 | value);
        high = -1;
    }
    if (to->size > start)
        zr_put16(to->data + start, (uint16_t)(to->size - start - 2));
}

static void load(const char *path)
{
    static char line[2 * INPUT_MAX];
    FILE *file = fopen(path, "r");

    ZR_CHECK(file != NULL && corpus_count < CORPUS_MAX);
    while (fgets(line, sizeof line, file) != NULL)
        add_line(&corpus[corpus_count], line);
    fclose(file);
    ZR_CHECK(corpus[corpus_count].size > 0);
    corpus_count++;
}

/* Async-signal-safe enough for a process that is about to die. */
static void tell_input(int number)
{
    static char text[3 * INPUT_MAX];
    size_t at = 0, pos = 0;

    while (pos + 2 <= current.size) {
        size_t end = pos + 2 + ZR_MIN((size_t)zr_get16(current.data + pos), current.size - pos - 2);
        for (pos += 2; pos < end; pos++) {
            text[at++] = "0123456789abcdef"[current.data[pos] >> 4];
            text[at++] = "0123456789abcdef"[current.data[pos] & 15];
        }
        text[at++] = '\n';
    }
    if (write(STDERR_FILENO, "# the input\n", 12) < 0 || write(STDERR_FILENO, text, at) < 0)
        _exit(2);
    signal(number, SIG_DFL);
    raise(number);
}

static void put_number(zr_rng *rng, input *in, size_t at)
{
    static const uint32_t numbers[] = { 0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF };
    uint8_t bytes[4];
    size_t width = (size_t)1 << zr_rng_below(rng, 3);

    zr_put32(bytes, numbers[zr_rng_below(rng, ZR_LEN(numbers))]);
    memcpy(in->data + at, bytes, ZR_MIN(width, in->size - at));
}

/* Something of another input, in place of what is there or behind all. */
static void splice(zr_rng *rng, input *in, size_t at)
{
    const input *other = &corpus[zr_rng_below(rng, corpus_count)];
    size_t from = (size_t)zr_rng_below(rng, other->size), len = (size_t)zr_rng_below(rng, other->size - from) + 1;

    if (zr_rng_below(rng, 2) == 0)
        at = in->size;
    len = ZR_MIN(len, INPUT_MAX - at);
    memcpy(in->data + at, other->data + from, len);
    in->size = ZR_MAX(in->size, at + len);
}

static void mutate(zr_rng *rng, input *in)
{
    size_t at = (size_t)zr_rng_below(rng, in->size);

    switch (zr_rng_below(rng, 6)) {
    case 0:
        in->data[at] ^= (uint8_t)(1u << zr_rng_below(rng, 8));
        break;
    case 1:
        in->data[at] = (uint8_t)zr_rng_next(rng);
        break;
    case 2:
        put_number(rng, in, at);
        break;
    case 3: /* a piece goes */
        memmove(in->data + at, in->data + at + 1, in->size - at - 1);
        in->size = ZR_MAX(in->size - 1, (size_t)1);
        break;
    case 4:
        in->size = at + 1;
        break;
    default:
        splice(rng, in, at);
        break;
    }
}

static double seconds(void)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec * 1e-9;
}

int main(int argc, char **argv)
{
    double began = seconds();
    char *unit;
    zr_rng rng;
    long n = 0;

    ZR_CHECK(argc > 3);
    signal(SIGABRT, tell_input);
    for (int i = 3; i < argc; i++)
        load(argv[i]);
    for (size_t i = 0; i < corpus_count; i++) {
        current = corpus[i];
        LLVMFuzzerTestOneInput(current.data, current.size);
    }
    long limit = strtol(argv[1], &unit, 10);
    zr_rng_seed(&rng, strtoull(argv[2], NULL, 10));
    for (; *unit == 's' ? seconds() - began < (double)limit : n < limit; n++) {
        current = corpus[zr_rng_below(&rng, corpus_count)];
        for (uint64_t left = 1 + zr_rng_below(&rng, 6); left > 0; left--)
            mutate(&rng, &current);
        LLVMFuzzerTestOneInput(current.data, current.size);
    }
    printf("%zu inputs, %ld mutations\n", corpus_count, n);
    return 0;
}
