/* Processes that begin to die, and who hears of it. */
#include "mem/zr_life.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/zr_err.h"
#include "zr_test.h"

enum { WORDS = 3, LONG_MS = 10000, SHORT_MS = 100 };

typedef struct watched {
    _Atomic uint32_t *words[WORDS];
    int told;
} watched;

static void *watch(void *arg)
{
    watched *w = arg;

    CHECK_EQ(zr_life_watch(w->words, WORDS, w->told), ZR_E_os); /* never, on a kernel that can */
    return NULL;
}

static void open_watch(watched *w)
{
    _Atomic uint32_t *shared =
        mmap(NULL, WORDS * sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    CHECK(shared != MAP_FAILED);
    for (int i = 0; i < WORDS; i++)
        w->words[i] = &shared[i];
    w->told = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    CHECK(w->told >= 0);
}

static bool told(const watched *w, int timeout_ms)
{
    struct pollfd fd = { .fd = w->told, .events = POLLIN };
    eventfd_t count;

    return poll(&fd, 1, timeout_ms) == 1 && eventfd_read(w->told, &count) == 0;
}

/* A process that lives in the word, or in none, until it is killed. */
static pid_t child(_Atomic uint32_t *word)
{
    int ready[2];
    char byte;

    CHECK_EQ(pipe(ready), 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        if (word != NULL && zr_life_begin(word) != ZR_OK)
            _exit(1);
        (void)!write(ready[1], "x", 1);
        for (;;)
            pause();
    }
    CHECK_EQ(read(ready[0], &byte, 1), 1);
    (void)close(ready[0]);
    (void)close(ready[1]);
    return pid;
}

static void end(pid_t pid, int number)
{
    CHECK_EQ(kill(pid, number), 0);
    CHECK_EQ(waitpid(pid, NULL, 0), pid);
}

ZR_TEST(a_life_ends_with_its_process_whatever_ends_that)
{
    static const int numbers[] = { SIGKILL, SIGTERM, SIGUSR1 };
    watched w;

    open_watch(&w);
    for (size_t i = 0; i < ZR_LEN(numbers); i++) {
        pid_t pid = child(w.words[0]);
        CHECK(!zr_life_ends(w.words[0]));
        end(pid, numbers[i]);
        CHECK(zr_life_ends(w.words[0]));
    }
    CHECK(!zr_life_ends(w.words[1])); /* nobody ever lived there */
}

ZR_TEST(who_watches_hears_of_every_end_and_of_nothing_else)
{
    static watched w; /* its thread outlives the test: it never comes back */
    pthread_t thread;

    open_watch(&w);
    pid_t pids[] = { child(w.words[0]), child(w.words[2]), child(NULL) };
    CHECK_EQ(pthread_create(&thread, NULL, watch, &w), 0);
    CHECK_EQ(pthread_detach(thread), 0);
    CHECK(!told(&w, SHORT_MS));
    end(pids[2], SIGKILL);
    CHECK(!told(&w, SHORT_MS));
    end(pids[1], SIGKILL);
    CHECK(told(&w, LONG_MS));
    CHECK(zr_life_ends(w.words[2]) && !zr_life_ends(w.words[0]));
    (void)told(&w, 0);
    pid_t successor = child(w.words[2]);
    CHECK(!zr_life_ends(w.words[2]));
    end(successor, SIGKILL); /* the watcher may never have seen it alive */
    CHECK(told(&w, LONG_MS));
    (void)told(&w, 0);
    end(pids[0], SIGKILL);
    CHECK(told(&w, LONG_MS));
    CHECK(zr_life_ends(w.words[0]));
}

ZR_TEST(nothing_to_watch_and_too_much_of_it_are_refused)
{
    static _Atomic uint32_t *words[ZR_LIVES_MAX + 1];

    CHECK_EQ(zr_life_watch(words, 0, -1), ZR_E_inval);
    CHECK_EQ(zr_life_watch(words, ZR_LIVES_MAX + 1, -1), ZR_E_inval);
}
