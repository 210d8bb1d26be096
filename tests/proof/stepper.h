/*
 * stepper.h - a mutator of shared memory, as a row of the stepper's tables (stepper.c), and what the rows work on.
 *
 * The tables end with a row without a name: ring_rows is what lies in rings (step_rings.c), page_rows the pages and
 * words beside them (step_pages.c), stream_rows a stream's row (step_stream.c).
 */
#ifndef STEPPER_H
#define STEPPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where a child is killed. AT_STORES is for what takes thousands of instructions: once in each state of the memory. */
enum where { AT_EVERY, AT_STORES };

typedef struct row {
    const char *name;
    void (*before)(void);         /* in the parent, untraced */
    void (*act)(void);            /* in the child */
    bool (*after)(bool returned); /* the successor's and the survivor's view; false: torn, lost, repeated or leaked */
    enum where where;
} row;

extern unsigned char *shared; /* the region of the two processes */
extern size_t shared_bytes;
extern uint64_t *ended; /* the child's last word: its mutator returned. The next one is the row's own */

extern const row ring_rows[], page_rows[], stream_rows[];
/* Most that a table's rows need of `shared`. */
size_t ring_rows_bytes(void), page_rows_bytes(void);

#endif
