# cython: language_level=3
"""What `zrelay bench ring` drives. _ring.pyi says what each call means."""

cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset

from relay._core cimport (
    ZR_E_inval, zr_chan, zr_chan_attach, zr_chan_awake, zr_chan_bytes, zr_chan_init, zr_chan_mem, zr_chan_sleep, zr_chan_wake_needed, zr_clock_now,
    zr_memory_open, zr_ns_t, zr_shm_unmap, zr_spsc, zr_spsc_claim, zr_spsc_commit, zr_spsc_peek, zr_spsc_release,
)

import array

import relay._core  # binds the errors
from relay.errors import error_for

cdef extern from "ring/zr_chan.h" nogil:
    zr_spsc *zr_chan_commands(zr_chan *chan)
    zr_spsc *zr_chan_events(zr_chan *chan)

cdef extern from "<sched.h>" nogil:
    int sched_yield()

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
    enum:
        POLLIN
    int poll(pollfd *fds, unsigned long count, int timeout_ms)

cdef extern from "<sys/eventfd.h>" nogil:
    enum:
        EFD_CLOEXEC, EFD_NONBLOCK
    int eventfd(unsigned int start, int flags)
    int eventfd_read(int fd, uint64_t *value)
    int eventfd_write(int fd, uint64_t value)

cdef extern from "<unistd.h>" nogil:
    int close(int fd)

cdef enum:
    LOOK_EVERY = 1024  # failed attempts between looks at the clock
    SLEEP_MS = 100


cdef inline void rest(bint yields) noexcept nogil:
    if yields:
        sched_yield()
    else:
        pause()


cdef extern from *:
    """
    #if defined(__x86_64__) || defined(__i386__)
    #define zr_ring_pause() __builtin_ia32_pause()
    #elif defined(__aarch64__)
    #define zr_ring_pause() __asm__ volatile("yield")
    #else
    #define zr_ring_pause() ((void)0)
    #endif
    """
    void pause "zr_ring_pause"() noexcept nogil


@cython.final
cdef class Rings:
    cdef void *at
    cdef size_t size
    cdef zr_chan near_view, far_view  # as two processes would have them
    cdef zr_chan *near
    cdef zr_chan *far
    cdef zr_spsc *there  # near claims, far peeks
    cdef zr_spsc *there_far
    cdef zr_spsc *back  # far claims, near peeks
    cdef zr_spsc *back_near
    cdef int wake_there, wake_back
    cdef uint32_t record_bytes

    def __cinit__(self, uint32_t slots, uint32_t record_bytes):
        self.wake_there = self.wake_back = -1
        self.size = zr_chan_bytes(slots, record_bytes) if record_bytes >= sizeof(uint64_t) else 0
        if self.size == 0:
            raise error_for(ZR_E_inval, "Rings: sizes")
        self.at = zr_memory_open(self.size)
        if self.at is NULL:
            raise MemoryError(f"{self.size} bytes")
        self.record_bytes = record_bytes
        self.near, self.far = &self.near_view, &self.far_view
        zr_chan_init(self.near, <zr_chan_mem *>self.at, slots, record_bytes)
        zr_chan_attach(self.far, <zr_chan_mem *>self.at, self.size, record_bytes)
        self.there, self.there_far = zr_chan_commands(self.near), zr_chan_commands(self.far)
        self.back, self.back_near = zr_chan_events(self.far), zr_chan_events(self.near)
        self.wake_there = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        self.wake_back = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        if self.wake_there < 0 or self.wake_back < 0:
            raise OSError("no eventfd")

    def __dealloc__(self):
        if self.wake_there >= 0:
            close(self.wake_there)
        if self.wake_back >= 0:
            close(self.wake_back)
        if self.at is not NULL:
            zr_shm_unmap(self.at, self.size)

    def alone(self, uint64_t records):
        cdef zr_ns_t start
        cdef uint64_t i
        cdef void *slot
        with nogil:
            start = zr_clock_now()
            for i in range(records):
                slot = zr_spsc_claim(self.there)
                memset(slot, <int>i, self.record_bytes)
                zr_spsc_commit(self.there)
                zr_spsc_peek(self.there_far)
                zr_spsc_release(self.there_far)
            start = zr_clock_now() - start
        return start

    def produce(self, uint64_t records, uint32_t burst, bint yields, zr_ns_t limit_ns):
        cdef zr_ns_t start
        cdef uint64_t done = 0
        cdef uint32_t failed = 0, left
        cdef void *slot
        with nogil:
            start = zr_clock_now()
            while done < records:
                left = burst
                while left > 0 and done < records:
                    slot = zr_spsc_claim(self.there)
                    if slot is NULL:
                        break
                    memset(slot, 0, self.record_bytes)
                    (<uint64_t *>slot)[0] = done
                    zr_spsc_commit(self.there)
                    done += 1
                    left -= 1
                if left > 0 and done < records:
                    failed += 1
                    if failed % LOOK_EVERY == 0 and zr_clock_now() - start > limit_ns:
                        break
                    rest(yields)
                elif burst > 1:
                    pause()
        return start, zr_clock_now(), done

    def consume(self, uint64_t records, bint yields, zr_ns_t limit_ns):
        cdef zr_ns_t start, end
        cdef uint64_t done = 0, wrong = 0
        cdef uint32_t failed = 0
        cdef const void *slot
        with nogil:
            start = zr_clock_now()
            while done < records:
                slot = zr_spsc_peek(self.there_far)
                if slot is NULL:
                    failed += 1
                    if failed % LOOK_EVERY == 0 and zr_clock_now() - start > limit_ns:
                        break
                    rest(yields)
                    continue
                wrong += (<const uint64_t *>slot)[0] != done
                zr_spsc_release(self.there_far)
                done += 1
            end = zr_clock_now()
        return start, end, done, wrong

    cdef bint wait(self, bint far, bint yields, bint wake, zr_ns_t until) noexcept nogil:
        """The end that answers (`far`) or the one that asks: True when a record is there, False when time is up."""
        cdef zr_spsc *ring = self.there_far if far else self.back_near
        cdef uint32_t failed = 0
        while zr_spsc_peek(ring) is NULL:
            if wake:
                self.sleep(ring, far)
                if zr_clock_now() > until:
                    return zr_spsc_peek(ring) is not NULL
                continue
            failed += 1
            if failed % LOOK_EVERY == 0 and zr_clock_now() > until:
                return False
            rest(yields)
        return True

    cdef void sleep(self, zr_spsc *ring, bint far) noexcept nogil:
        """As zr_chan.h says: told, looked once more, blocked."""
        cdef uint64_t ignored = 0
        cdef pollfd waiting
        if far:
            zr_chan_sleep(self.near.worker_asleep)
        else:
            zr_chan_sleep(self.near.agent_asleep)
        if zr_spsc_peek(ring) is NULL:
            waiting.fd, waiting.events = self.wake_there if far else self.wake_back, POLLIN
            poll(&waiting, 1, SLEEP_MS)
            eventfd_read(waiting.fd, &ignored)
        if far:
            zr_chan_awake(self.near.worker_asleep)
        else:
            zr_chan_awake(self.near.agent_asleep)

    def ping(self, uint32_t rounds, bint yields, bint wake, zr_ns_t pause_ns, zr_ns_t limit_ns):
        cdef int64_t[::1] took = array.array("q", [0]) * rounds
        cdef uint32_t i, done = 0, writes = 0
        cdef zr_ns_t start, until = zr_clock_now() + limit_ns
        cdef void *slot
        with nogil:
            for i in range(rounds):
                start = zr_clock_now()
                while zr_clock_now() - start < pause_ns:
                    if yields:
                        sched_yield()
                start = zr_clock_now()
                slot = zr_spsc_claim(self.there)
                if slot is NULL or start > until:
                    break
                (<uint64_t *>slot)[0] = i
                zr_spsc_commit(self.there)
                if wake and zr_chan_wake_needed(self.near.worker_asleep):
                    eventfd_write(self.wake_there, 1)
                    writes += 1
                if not self.wait(False, yields, wake, until):
                    break
                zr_spsc_release(self.back_near)
                took[i] = zr_clock_now() - start
                done += 1
        return took.base[:done], writes

    def pong(self, uint32_t rounds, bint yields, bint wake, zr_ns_t limit_ns):
        cdef uint32_t done = 0
        cdef zr_ns_t until = zr_clock_now() + limit_ns
        with nogil:
            while done < rounds:
                if not self.wait(True, yields, wake, until):
                    break
                zr_spsc_release(self.there_far)
                if zr_spsc_claim(self.back) is NULL:
                    break
                zr_spsc_commit(self.back)
                if wake and zr_chan_wake_needed(self.near.agent_asleep):
                    eventfd_write(self.wake_back, 1)
                done += 1
        return done
