# Part of _core.pyx: one one-way link, simulated.


@cython.final
cdef class SimLink:
    cdef Region mem
    cdef zr_simlink *link

    def __cinit__(self, zr_ns_t delay_ns=0, zr_ns_t jitter_ns=0, double loss=0.0, double burst=1.0, double dup=0.0,
                  double reorder=0.0, uint64_t rate_bps=0, uint32_t queue_bytes=0, uint32_t packets_max=4096,
                  uint64_t seed=0):
        cdef zr_simlink_conf conf
        conf.delay, conf.jitter, conf.loss, conf.burst, conf.dup = delay_ns, jitter_ns, loss, burst, dup
        conf.reorder, conf.rate_bps, conf.queue_bytes = reorder, rate_bps, queue_bytes
        conf.packets_max, conf.seed = packets_max, seed
        self.mem = private(zr_simlink_bytes(&conf))
        self.link = <zr_simlink *>self.mem.at
        check(zr_simlink_init(self.link, &conf))

    def put(self, bytes data not None, uint64_t tag, zr_ns_t now):
        return check(zr_simlink_put(self.link, data_of(data), len(data), tag, now)) == ZR_OK

    def get(self, zr_ns_t now):
        cdef const uint8_t *data = NULL
        cdef uint64_t tag = 0
        cdef int size = zr_simlink_get(self.link, &data, &tag, now)
        if size == ZR_E_again:
            return None
        return PyBytes_FromStringAndSize(<const char *>data, check(size)), tag

    def deadline(self):
        return zr_simlink_deadline(self.link)

    def counts(self):
        cdef const zr_simlink_counts *c = zr_simlink_counted(self.link)
        return {"in": c.in_, "lost": c.lost, "queue_dropped": c.queue_dropped, "overflow": c.overflow,
                "duplicated": c.duplicated, "reordered": c.reordered, "out": c.out}
