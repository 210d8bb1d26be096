# cython: language_level=3
"""The load of `zrelay bench`: publisher, subscribers and the bare forwarder of csrc/load. _load.pyi says what each call
means.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_SetFromErrno
from libc.stdlib cimport free

from relay._core cimport ZR_E_inval, zr_addr

import relay._core  # noqa: F401  binds the errors
from relay.errors import error_for

cdef enum:
    LINE = 64


cdef void *memory(size_t size) except NULL:
    """Freed by whoever asked."""
    cdef void *at
    if size == 0:
        raise error_for(ZR_E_inval, "a size, a rate or a count is out of range")
    at = aligned_alloc(LINE, (size + LINE - 1) // LINE * LINE)
    if at is NULL:
        raise MemoryError(f"{size} bytes")
    return at


cdef const zr_addr *addresses(bytes packed, size_t count) except NULL:
    if <size_t>PyBytes_GET_SIZE(packed) != count * sizeof(zr_addr):
        raise ValueError(f"{count} addresses of {sizeof(zr_addr)} bytes, not {len(packed)} bytes")
    return <const zr_addr *>PyBytes_AS_STRING(packed)


@cython.final
cdef class Generator:
    cdef void *mem
    cdef zr_gen *gen
    cdef readonly uint32_t streams

    def __cinit__(self, bytes source not None, bytes targets not None, *, uint32_t ssrc, uint32_t frame, uint32_t size,
                  uint32_t pps, uint8_t payload_type, bint segment, zr_ns_t ramp_ns=0):
        cdef zr_gen_conf conf
        conf.streams = self.streams = len(targets) // sizeof(zr_addr)
        conf.ssrc, conf.frame, conf.size, conf.pps = ssrc, frame, size, pps
        conf.payload_type, conf.segment, conf.ramp = payload_type, segment, ramp_ns
        self.mem = memory(zr_gen_bytes(&conf))
        self.gen = zr_gen_open(self.mem, &conf, addresses(source, 1), addresses(targets, conf.streams))
        if self.gen is NULL:
            PyErr_SetFromErrno(OSError)

    def __dealloc__(self):
        if self.gen is not NULL:
            zr_gen_close(self.gen)
        free(self.mem)

    def run(self, zr_ns_t length_ns):
        with nogil:
            zr_gen_run(self.gen, length_ns)

    def stop(self):
        zr_gen_stop(self.gen)

    def counts(self):
        cdef zr_gen_counts c
        zr_gen_counted(self.gen, &c)
        return {"due": c.due, "sent": c.sent, "refused": c.refused, "frames": c.frames, "late": c.late,
                "calls": c.calls, "late_ns_max": c.late_ns_max, "busy_ns": c.busy_ns, "run_ns": c.run_ns}

    def sent(self):
        return [zr_gen_sent(self.gen, i) for i in range(self.streams)]


@cython.final
cdef class Sinks:
    cdef void *mem
    cdef zr_sinks *sinks
    cdef readonly uint32_t count

    def __cinit__(self, bytes at not None, uint32_t count, *, uint32_t per_stream, uint32_t ssrc, uint32_t size,
                  uint32_t rcvbuf, bint gro):
        cdef zr_sinks_conf conf
        conf.count, conf.per_stream, conf.ssrc, conf.size = count, per_stream, ssrc, size
        conf.rcvbuf, conf.gro = rcvbuf, gro
        self.count = count
        self.mem = memory(zr_sinks_bytes(&conf))
        self.sinks = zr_sinks_open(self.mem, &conf, addresses(at, 1))
        if self.sinks is NULL:
            PyErr_SetFromErrno(OSError)

    def __dealloc__(self):
        if self.sinks is not NULL:
            zr_sinks_close(self.sinks)
        free(self.mem)

    def run(self):
        with nogil:
            zr_sinks_run(self.sinks)

    def stop(self):
        zr_sinks_stop(self.sinks)

    def counts(self):
        cdef zr_sinks_counts c
        zr_sinks_counted(self.sinks, &c)
        return {"good": c.good, "duplicates": c.duplicates, "old": c.old, "corrupt": c.corrupt, "rtcp": c.rtcp,
                "bytes": c.bytes, "calls": c.calls, "busy_ns": c.busy_ns}

    def ports(self):
        return [zr_sinks_port(self.sinks, i) for i in range(self.count)]

    def good(self):
        return [zr_sinks_good(self.sinks, i) for i in range(self.count)]

    def dropped(self):
        return [zr_sinks_dropped(self.sinks, i) for i in range(self.count)]

    def delays(self):
        cdef uint64_t buckets[ZR_HIST_BUCKETS]
        cdef uint32_t i
        for i in range(<uint32_t>ZR_HIST_BUCKETS):
            buckets[i] = 0
        for i in range(self.count):
            zr_sinks_delays(self.sinks, i, buckets)
        return [buckets[i] for i in range(<uint32_t>ZR_HIST_BUCKETS)]

    def clear_delays(self):
        zr_sinks_clear_delays(self.sinks)


def hist_floor(uint32_t bucket):
    return zr_hist_floor(bucket)


def forward(int fd, bytes targets not None, *, bint segment):
    cdef uint32_t count = len(targets) // sizeof(zr_addr)
    cdef const zr_addr *to = addresses(targets, count)
    cdef void *mem = memory(zr_bare_bytes(count))
    cdef zr_bare *bare = zr_bare_init(mem, fd, to, count, segment)
    if bare is NULL:
        free(mem)
        raise error_for(ZR_E_inval, "the socket is no UDP socket, or reaches no such address")
    with nogil:
        zr_bare_run(bare)
