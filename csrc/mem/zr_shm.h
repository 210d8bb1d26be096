/*
 * zr_shm.h - memory shared between the agent and a worker: a memfd of one size for life, passed on by its number.
 *
 * Sealed against growing and shrinking, so no process can make another fault (SIGBUS) by truncating what it mapped.
 * A mapping is refused unless the seals are there and the size is the expected one. The descriptor is closed with
 * close(2); mappings outlive it.
 */
#ifndef ZR_SHM_H
#define ZR_SHM_H

#include "base/zr_base.h"

/* A new region of `bytes` zero bytes. The descriptor (close-on-exec) or ZR_E_inval, ZR_E_os. `name` is for /proc. */
int zr_shm_open(const char *name, size_t bytes);
/* Maps the whole region, shared and writable, at *at; no core has it. ZR_E_version: unsealed or not of `bytes`;
 * ZR_E_os. */
int zr_shm_map(int fd, size_t bytes, void **at);
/* The mapping at `from` is at `to` from now on, with the pages it has; what was mapped there goes. ZR_E_os. */
int zr_shm_move(void *from, void *to, size_t bytes);
/* `at` may be NULL. */
void zr_shm_unmap(void *at, size_t bytes);

#endif
