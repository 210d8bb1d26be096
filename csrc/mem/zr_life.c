#include "mem/zr_life.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/zr_err.h"

static bool ended(uint32_t word)
{
    return (word & ~FUTEX_WAITERS) == FUTEX_OWNER_DIED; /* what the kernel leaves: nobody's id */
}

int zr_life_begin(_Atomic uint32_t *word)
{
    static _Thread_local struct robust_list_head head; /* the kernel reads it when we are gone */

    /* An empty list, and one lock that is just being taken or given back: ours, for ever. Its address is all that the
     * kernel needs, so nothing in shared memory has to be believed. */
    head.list.next = &head.list;
    head.futex_offset = 0;
    head.list_op_pending = NULL;
    if (syscall(SYS_set_robust_list, &head, sizeof head) != 0)
        return ZR_E_os;
    /* FUTEX_WAITERS: somebody waits, as far as we know; else nobody is woken. */
    atomic_store_explicit(word, (uint32_t)syscall(SYS_gettid) | FUTEX_WAITERS, memory_order_release);
    head.list_op_pending = (struct robust_list *)(uintptr_t)word;
    return ZR_OK;
}

bool zr_life_ends(const _Atomic uint32_t *word)
{
    return ended(atomic_load_explicit(word, memory_order_acquire));
}

int zr_life_watch(_Atomic uint32_t *const *words, uint32_t count, int eventfd)
{
#ifdef SYS_futex_waitv
    struct futex_waitv waits[ZR_LIVES_MAX];
    bool news;

    if (count == 0 || count > ZR_LIVES_MAX)
        return ZR_E_inval;
    for (;;) {
        news = false;
        for (uint32_t i = 0; i < count; i++) {
            uint32_t word = atomic_load_explicit(words[i], memory_order_acquire);
            waits[i] = (struct futex_waitv){ .val = word, .uaddr = (uintptr_t)words[i], .flags = FUTEX_32 };
            news |= ended(word);
        }
        /* Told again and again until a successor lives there, each time after some life's change: that costs nothing.
         */
        if (news)
            (void)eventfd_write(eventfd, 1);
        if (syscall(SYS_futex_waitv, waits, count, 0, NULL, 0) < 0 && errno != EAGAIN && errno != EINTR)
            return ZR_E_os;
    }
#else
    (void)words, (void)count, (void)eventfd;
    return ZR_E_os;
#endif
}
