# Part of _core.pyx: the memory that the core's objects live in.


def shm_open(str name not None, size_t size):
    cdef bytes encoded = name.encode()
    return check(zr_shm_open(encoded, size))


@cython.final
@cython.internal
cdef class Region:
    """Memory for as long as its owner lives: a shared page by its descriptor, or our own, zeroed."""

    cdef void *at
    cdef size_t size

    def __dealloc__(self):
        zr_shm_unmap(self.at, self.size)


cdef Region shared(int fd, size_t size):
    cdef Region region = Region.__new__(Region)
    region.size = size
    check(zr_shm_map(fd, size, &region.at))
    return region


cdef Region private(size_t size):
    cdef Region region = Region.__new__(Region)
    if size == 0:
        raise error_for(ZR_E_inval, "a size is out of range")
    region.at = zr_memory_open(size)
    if region.at is NULL:
        raise MemoryError(f"{size} bytes")
    region.size = size
    return region
