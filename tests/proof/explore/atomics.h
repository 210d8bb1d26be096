/*
 * atomics.h - put before every file of a program under the explorer (gcc -include): each atomic operation of the
 * product's own source becomes a call, and each call a place where another thread may go on instead.
 *
 * Word-sized objects only, as all of ours are. What is no atomic of a scenario (nobody asked for it with xp_word) keeps
 * its plain meaning, so that a page with a hundred counters has two that matter.
 */
#ifndef ZR_EXPLORE_ATOMICS_H
#define ZR_EXPLORE_ATOMICS_H

#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

uint64_t xp_load(const volatile void *at, size_t bytes, memory_order order);
void xp_store(volatile void *at, size_t bytes, uint64_t value, memory_order order);
uint64_t xp_exchange(volatile void *at, size_t bytes, uint64_t value, memory_order order);
uint64_t xp_fetch_add(volatile void *at, size_t bytes, uint64_t by, memory_order order);
void xp_fence(memory_order order);
int xp_yield(void);

#undef atomic_load_explicit
#undef atomic_store_explicit
#undef atomic_exchange_explicit
#undef atomic_fetch_add_explicit
#undef atomic_thread_fence
#undef atomic_init
#define atomic_load_explicit(at, order)         ((__typeof__(*(at) + 0))xp_load(at, sizeof *(at), order))
#define atomic_store_explicit(at, value, order) xp_store(at, sizeof *(at), (uint64_t)(value), order)
#define atomic_exchange_explicit(at, value, order)                                                                     \
    ((__typeof__(*(at) + 0))xp_exchange(at, sizeof *(at), (uint64_t)(value), order))
#define atomic_fetch_add_explicit(at, by, order)                                                                       \
    ((__typeof__(*(at) + 0))xp_fetch_add(at, sizeof *(at), (uint64_t)(by), order))
#define atomic_thread_fence(order) xp_fence(order)
#define atomic_init(at, value)     xp_store(at, sizeof *(at), (uint64_t)(value), memory_order_relaxed)
#define sched_yield()              xp_yield()

#endif
