# csrc/load, the load of `zrelay bench`. None raises and none needs the GIL.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from relay._core cimport cbool, zr_addr, zr_ns_t

cdef extern from "<stdlib.h>" nogil:
    void *aligned_alloc(size_t line, size_t size)

cdef extern from "stat/zr_stat.h" nogil:
    enum:
        ZR_HIST_BUCKETS
    uint64_t zr_hist_floor(uint32_t bucket)

cdef extern from "load/zr_gen.h" nogil:
    ctypedef struct zr_gen_conf:
        uint32_t streams, ssrc, frame, size, pps
        uint8_t payload_type
        cbool segment
        zr_ns_t ramp
    ctypedef struct zr_gen_counts:
        uint64_t due, sent, refused, frames, late, calls, late_ns_max, busy_ns, run_ns
    ctypedef struct zr_gen:
        pass
    size_t zr_gen_bytes(const zr_gen_conf *conf)
    zr_gen *zr_gen_open(void *mem, const zr_gen_conf *conf, const zr_addr *from_, const zr_addr *to)
    void zr_gen_close(zr_gen *gen)
    void zr_gen_run(zr_gen *gen, zr_ns_t length)
    void zr_gen_stop(zr_gen *gen)
    void zr_gen_counted(const zr_gen *gen, zr_gen_counts *counts)
    uint64_t zr_gen_sent(const zr_gen *gen, uint32_t stream)

cdef extern from "load/zr_sinks.h" nogil:
    ctypedef struct zr_sinks_conf:
        uint32_t count, per_stream, ssrc, size, rcvbuf
        cbool gro
    ctypedef struct zr_sinks_counts:
        uint64_t good, duplicates, old, corrupt, rtcp, bytes, calls, busy_ns
    ctypedef struct zr_sinks:
        pass
    size_t zr_sinks_bytes(const zr_sinks_conf *conf)
    zr_sinks *zr_sinks_open(void *mem, const zr_sinks_conf *conf, const zr_addr *at)
    void zr_sinks_close(zr_sinks *sinks)
    uint16_t zr_sinks_port(const zr_sinks *sinks, uint32_t i)
    void zr_sinks_run(zr_sinks *sinks)
    void zr_sinks_stop(zr_sinks *sinks)
    void zr_sinks_counted(const zr_sinks *sinks, zr_sinks_counts *counts)
    uint64_t zr_sinks_good(const zr_sinks *sinks, uint32_t i)
    uint64_t zr_sinks_dropped(const zr_sinks *sinks, uint32_t i)
    void zr_sinks_delays(const zr_sinks *sinks, uint32_t i, uint64_t *into)
    void zr_sinks_clear_delays(zr_sinks *sinks)

cdef extern from "load/zr_bare.h" nogil:
    ctypedef struct zr_bare:
        pass
    size_t zr_bare_bytes(uint32_t to_count)
    zr_bare *zr_bare_init(void *mem, int fd, const zr_addr *to, uint32_t to_count, cbool segment)
    void zr_bare_run(zr_bare *bare)  # _Noreturn
