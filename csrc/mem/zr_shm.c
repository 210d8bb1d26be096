#include "mem/zr_shm.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/zr_err.h"

/* F_SEAL_SEAL too: what is agreed on at the start can neither be extended nor narrowed later. */
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

int zr_shm_open(const char *name, size_t bytes)
{
    if (bytes == 0 || bytes > INT64_MAX)
        return ZR_E_inval;

    int fd = memfd_create(name, MFD_ALLOW_SEALING | MFD_CLOEXEC);
    if (fd < 0)
        return ZR_E_os;
    if (ftruncate(fd, (off_t)bytes) != 0 || fcntl(fd, F_ADD_SEALS, SEALS) != 0) {
        int why = errno;
        close(fd);
        errno = why;
        return ZR_E_os;
    }
    return fd;
}

int zr_shm_map(int fd, size_t bytes, void **at)
{
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);

    *at = NULL;
    if (fstat(fd, &st) != 0)
        return ZR_E_os;
    /* EINVAL, a file that knows no seals, is a file without them. */
    if (seals < 0 || (seals & SEALS) != SEALS || bytes == 0 || (uint64_t)st.st_size != bytes)
        return ZR_E_version;

    void *mapped = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED)
        return ZR_E_os;
    (void)madvise(mapped, bytes, MADV_DONTDUMP); /* secrets pass through rings; best effort */
    *at = mapped;
    return ZR_OK;
}

int zr_shm_move(void *from, void *to, size_t bytes)
{
    return mremap(from, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, to) == MAP_FAILED ? ZR_E_os : ZR_OK;
}

void zr_shm_unmap(void *at, size_t bytes)
{
    if (at != NULL)
        munmap(at, bytes);
}
