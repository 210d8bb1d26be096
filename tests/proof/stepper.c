/*
 * stepper.c - killed at every instruction: what another process finds in the shared memory.
 *
 * For each mutator, for k = 0, 1, 2, ...: a child performs it on memory shared with us, single-stepped by ptrace, and
 * gets SIGKILL before its instruction k + 1; then a successor attaches and the surviving side goes on. Over when a
 * child came to its end. What takes thousands of instructions is killed after 0 and after each that changed the memory:
 * all that others can find of it. A new mutator is a row of a table (stepper.h).
 *
 *     stepper          all; "NAME points=N bad=N" a row, exit status 1 when a row is not as expected, 77 without ptrace
 *
 * The rows named planted_... carry a bug and must have bad points: else the stepper sees nothing.
 */
#include "stepper.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/zr_base.h"

#define POINTS_MAX 20000

unsigned char *shared;
size_t shared_bytes;
uint64_t *ended;
static unsigned char *seen; /* `shared` after the instruction before */

/* A child that stands right before `act`. 0: no ptrace here. */
static pid_t child_of(const row *r)
{
    int status;

    *ended = 0;
    pid_t pid = fork();
    if (pid == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
            _exit(77);
        raise(SIGSTOP);
        r->act();
        *(volatile uint64_t *)ended = 1;
        for (;;)
            pause();
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
        return 0;
    return pid;
}

/* One instruction. False when the child came to an end by itself: a crash. */
static bool step(pid_t pid)
{
    int status;

    if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) != 0 || waitpid(pid, &status, 0) != pid)
        return false;
    if (WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP)
        return true;
    fprintf(stderr, "the child stopped with status %#x\n", (unsigned)status);
    return false;
}

static bool put_to_death(pid_t pid)
{
    int status;

    kill(pid, SIGKILL);
    return waitpid(pid, &status, 0) == pid && WIFSIGNALED(status);
}

/* Lets it do `steps` instructions and kills it. False when it crashed. */
static bool kill_after(pid_t pid, int steps)
{
    for (int i = 0; i < steps && *(volatile uint64_t *)ended == 0; i++)
        if (!step(pid))
            return false;
    return put_to_death(pid);
}

/* After how many instructions the memory was another one, the end included; their number, or -1. */
static int stores_of(const row *r, int at[POINTS_MAX])
{
    pid_t pid;
    int count = 0;

    r->before();
    if ((pid = child_of(r)) == 0)
        return -1;
    memcpy(seen, shared, shared_bytes);
    at[count++] = 0;
    for (int i = 1; *(volatile uint64_t *)ended == 0; i++) {
        if (!step(pid) || count == POINTS_MAX)
            return -1;
        if (memcmp(seen, shared, shared_bytes) == 0 && *(volatile uint64_t *)ended == 0)
            continue;
        memcpy(seen, shared, shared_bytes);
        at[count++] = i;
    }
    return put_to_death(pid) ? count : -1;
}

static int fds_open(void)
{
    int count = 0;
    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

typedef struct verdict {
    int points, bad;
    bool returned, leaked;
} verdict;

/* 0, or the exit status of the whole. */
static int judge(const row *r, verdict *v)
{
    static int stores[POINTS_MAX];
    int count = r->where == AT_STORES ? stores_of(r, stores) : POINTS_MAX, open_before = 0;

    *v = (verdict){ .points = 0 };
    for (; !v->returned && v->points < count; v->points++) {
        r->before();
        if (v->points == 0)
            open_before = fds_open();
        pid_t pid = child_of(r);
        if (pid == 0)
            return 77;
        if (!kill_after(pid, r->where == AT_STORES ? stores[v->points] : v->points))
            return 2;
        v->returned = *ended != 0;
        v->bad += !r->after(v->returned);
    }
    v->leaked = fds_open() != open_before;
    return 0;
}

int main(void)
{
    const row *const tables[] = { ring_rows, page_rows, stream_rows };
    bool failed = false;
    int points_all = 0;

    shared_bytes = zr_round_up(ZR_MAX(ring_rows_bytes(), page_rows_bytes()), 4096);
    shared = mmap(NULL, shared_bytes + 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    seen = malloc(shared_bytes);
    if (shared == MAP_FAILED || seen == NULL)
        return 2;
    ended = (void *)(shared + shared_bytes);
    for (size_t t = 0; t < ZR_LEN(tables); t++)
        for (const row *r = tables[t]; r->name != NULL; r++) {
            bool planted = strncmp(r->name, "planted_", 8) == 0;
            verdict v;
            int rc = judge(r, &v);
            if (rc == 77)
                printf("ptrace is not permitted here: the single-step kill is skipped\n");
            if (rc != 0)
                return rc;
            printf("%s points=%d bad=%d%s\n", r->name, v.points, v.bad, v.leaked ? " descriptors leaked" : "");
            fflush(stdout);
            points_all += v.points;
            failed = failed || !v.returned || v.leaked || (v.bad > 0) != planted;
        }
    printf("killed at %d instructions: %s\n", points_all, failed ? "NOT as expected" : "as expected");
    free(seen);
    return failed;
}
