# Part of _core.pyx: rings: the agent's and a worker's ends of their channel, the workers' to each other.


cdef int put_record(zr_chan *chan, bytes record) except -1:
    if PyBytes_GET_SIZE(record) != ZR_RECORD_BYTES:
        raise ValueError(f"a record is {ZR_RECORD_BYTES} bytes, not {len(record)}")
    cdef void *slot = zr_spsc_claim(zr_chan_commands(chan))
    if slot is NULL:
        return 0
    memcpy(slot, PyBytes_AS_STRING(record), ZR_RECORD_BYTES)
    zr_spsc_commit(zr_chan_commands(chan))
    return 1


cdef list take_records(zr_chan *chan, Py_ssize_t most):
    cdef const void *slot
    cdef list records = []
    while len(records) < most:
        slot = zr_spsc_peek(zr_chan_events(chan))
        if slot is NULL:
            break
        records.append(PyBytes_FromStringAndSize(<const char *>slot, ZR_RECORD_BYTES))
        zr_spsc_release(zr_chan_events(chan))
    return records


@cython.final
cdef class Channel:
    cdef Region region
    cdef zr_chan chan

    def __cinit__(self, int fd, *, uint32_t slots=4096, bint create=False):
        self.region = shared(fd, Channel.bytes_for(slots))
        cdef zr_chan_mem *mem = <zr_chan_mem *>self.region.at
        check(zr_chan_init(&self.chan, mem, slots, ZR_RECORD_BYTES) if create
              else zr_chan_look(&self.chan, mem, self.region.size, ZR_RECORD_BYTES))

    @staticmethod
    def bytes_for(uint32_t slots):
        cdef size_t size = zr_chan_bytes(slots, ZR_RECORD_BYTES)
        if size == 0:
            raise ValueError(f"slots: a power of two from 2, not {slots}")
        return size

    def post(self, bytes record not None):
        return put_record(&self.chan, record) == 1

    def wake_needed(self):
        return zr_chan_wake_needed(self.chan.worker_asleep)

    def events(self, Py_ssize_t most=4096):
        return take_records(&self.chan, most)

    def sleep(self):
        zr_chan_sleep(self.chan.agent_asleep)

    def awake(self):
        zr_chan_awake(self.chan.agent_asleep)

    @property
    def corrupt(self):
        return not (zr_spsc_check(zr_chan_events(&self.chan)) and zr_spsc_check(zr_chan_commands(&self.chan)))


@cython.final
cdef class Inbox:
    cdef Region region
    cdef zr_inbox inbox

    def __cinit__(self, int workers, *, int fd=-1, uint32_t slots=ZR_MIRROR_SLOTS, bint create=False):
        cdef size_t size = Inbox.bytes_for(workers, slots=slots)
        self.region = private(size) if fd < 0 else shared(fd, size)
        if fd < 0 or create:
            check(zr_inbox_init(<zr_inbox_page *>self.region.at, workers, slots, ZR_MIRROR_RECORD))
        check(zr_inbox_look(&self.inbox, <zr_inbox_page *>self.region.at, size))

    @staticmethod
    def bytes_for(int workers, *, uint32_t slots=ZR_MIRROR_SLOTS):
        cdef size_t size = zr_inbox_bytes(workers if workers > 0 else 0, slots, ZR_MIRROR_RECORD)
        if size == 0:
            raise ValueError(f"1 to {ZR_INBOX_WORKERS} workers, slots a power of two: not {workers}, {slots}")
        return size
