/*
 * zr_life.h - the death of a process, told the moment it begins.
 *
 *   worker:     word = its thread's id, named in its robust list
 *   kernel:     first thing of its end: word = FUTEX_OWNER_DIED, who waits for it is woken
 *   supervisor: a thread in zr_life_watch ── eventfd ──▶ its loop
 *
 * A pidfd becomes readable at the very end, when all memory has been taken apart: for a worker of 120 MiB 2 ms later on
 * a quiet machine, and 4 to 13 on a busy one. The robust list (set_robust_list(2), robust-futexes in the kernel's
 * documentation) is looked at before that, when the thread runs no further instruction of its own. A hint, no
 * proof: anybody can write the word. Whoever acts on it sends SIGKILL and asks the kernel whether the process is ending
 * (PF_EXITING, in /proc/PID/stat, is set before the word); if it is not, its pidfd tells when it has.
 */
#ifndef ZR_LIFE_H
#define ZR_LIFE_H

#include "base/zr_base.h"

#define ZR_LIVES_MAX 128u /* FUTEX_WAITV_MAX */

/* The calling thread lives in `word`, in shared memory, until its process ends. It has one word, the last; and from now
 * on no robust mutex of the C library's. ZR_OK, ZR_E_os. */
int zr_life_begin(_Atomic uint32_t *word);
/* Whoever lived in it has begun to die. */
bool zr_life_ends(const _Atomic uint32_t *word);
/* Adds 1 to an eventfd whenever one of `count` lives has ended. Returns only on failure: ZR_E_inval, ZR_E_os (a kernel
 * before 5.16). */
int zr_life_watch(_Atomic uint32_t *const *words, uint32_t count, int eventfd);

#endif
