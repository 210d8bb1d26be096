/*
 * no_alloc.c - counts what a program asks of the allocator and of mmap; preloaded (LD_PRELOAD), glibc only.
 *
 * zr_allocations() is how often so far; the program finds it by dlsym, and takes the difference.
 */
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

/* glibc's own entries, below the names that are taken over here. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *mem, size_t size);
void *__libc_memalign(size_t align, size_t size);
void __libc_free(void *mem);

uint64_t zr_allocations(void);

static uint64_t own[2];
extern uint64_t *zr_libc_calls; /* allocations; texts made, where no_format.c is linked in */
uint64_t *zr_libc_calls = own;

EXPORT uint64_t zr_allocations(void)
{
    return __atomic_load_n(&zr_libc_calls[0], __ATOMIC_RELAXED);
}

static void count(void)
{
    __atomic_fetch_add(&zr_libc_calls[0], 1, __ATOMIC_RELAXED);
}

EXPORT void *malloc(size_t size)
{
    count();
    return __libc_malloc(size);
}

EXPORT void *calloc(size_t n, size_t size)
{
    count();
    return __libc_calloc(n, size);
}

EXPORT void *realloc(void *mem, size_t size)
{
    count();
    return __libc_realloc(mem, size);
}

EXPORT void free(void *mem)
{
    count();
    __libc_free(mem);
}

EXPORT void *memalign(size_t align, size_t size)
{
    count();
    return __libc_memalign(align, size);
}

EXPORT void *aligned_alloc(size_t align, size_t size)
{
    count();
    return __libc_memalign(align, size);
}

EXPORT int posix_memalign(void **mem, size_t align, size_t size)
{
    count();
    *mem = __libc_memalign(align, size);
    return *mem == NULL ? ENOMEM : 0;
}

EXPORT void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
    count();
    /* syscall() answers -1 and errno as mmap does. */
    return (void *)syscall(SYS_mmap, addr, len, prot, flags, fd, offset);
}

EXPORT int munmap(void *addr, size_t len)
{
    count();
    return (int)syscall(SYS_munmap, addr, len);
}
