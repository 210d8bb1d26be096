# Part of _core.pyx: counter pages, and the lives of those who write them.


cdef class Counters:
    """Whoever has a counter page."""

    cdef Region page_region
    cdef zr_stat_page *page
    cdef uint32_t streams_max  # ours; the page's own word can be written by whoever shares it

    cdef int own_page(self, uint32_t streams_max) except -1:
        self.page_region = private(zr_stat_bytes(streams_max))
        self.streams_max = streams_max
        self.page = <zr_stat_page *>self.page_region.at
        return check(zr_stat_init(self.page, streams_max))

    cdef int share_page(self, int fd, uint32_t streams_max) except -1:
        self.page_region = shared(fd, zr_stat_bytes(streams_max))
        self.streams_max = streams_max
        self.page = <zr_stat_page *>self.page_region.at

    def counts(self):
        cdef zr_stat_counts counts
        zr_stat_snapshot(self.page, &counts)
        return ({row[0]: counts.stat[i] for i, row in enumerate(STATS)},
                {row[0]: counts.drop[i] for i, row in enumerate(DROPS)},
                {text(zr_ledger_names[i]): zr_counts_off(&counts, i) for i in range(ZR_LEDGER_COUNT)})

    def stats(self):
        return self.counts()[0]

    def drops(self):
        return self.counts()[1]

    def hist(self, str name not None):
        cdef int h = HIST_IDS[name]
        return [(zr_hist_floor(bucket), self.page.hist[h][bucket]) for bucket in range(<uint32_t>ZR_HIST_BUCKETS)
                if self.page.hist[h][bucket] > 0]

    def ledgers(self):
        return self.counts()[2]

    def stream(self, uint32_t slot):
        if slot >= self.streams_max:
            raise IndexError(f"stream slot {slot} of {self.streams_max}")
        cdef zr_stream_row *row = &self.page.streams[slot]
        return {"epoch": row.epoch, "packets": row.packets, "bytes": row.bytes, "last_ns": row.last_ns,
                "first_ns": row.first_ns, "next_number": row.next_number, "fan_sent": row.fan_sent,
                "nack_asked": row.nack_asked, "nack_served": row.nack_served, "keyframes": row.keyframes,
                "stalls": row.stalls, "drops": row.drops, "duplicates": row.duplicates, "oversize": row.oversize,
                "state": row.state, "gaps": row.gaps, "resume_number": row.resume_number}

    def session(self, uint32_t slot):
        if slot >= ZR_STAT_SESSIONS:
            raise IndexError(f"session slot {slot} of {ZR_STAT_SESSIONS}")
        cdef zr_link_row *row = &self.page.sessions[slot]
        return (row.rx_datagrams, row.rx_bytes, row.rx_payload, row.tx_datagrams, row.tx_bytes, row.tx_payload)

    @property
    def pid(self):
        return self.page.pid

    @property
    def generation(self):
        return self.page.generation

    @property
    def heartbeat_ns(self):
        return self.page.heartbeat_ns

    @property
    def started_ns(self):
        return self.page.started_ns


@cython.final
cdef class StatPage(Counters):
    def __cinit__(self, int fd, *, uint32_t streams_max, bint create=False):
        self.share_page(fd, streams_max)
        check(zr_stat_init(self.page, streams_max) if create else zr_stat_look(self.page, self.page_region.size))

    @staticmethod
    def bytes_for(uint32_t streams_max):
        return zr_stat_bytes(streams_max)

    @property
    def ending(self):
        return zr_life_ends(&self.page.life)


def watch_lives(list pages not None, int eventfd):
    cdef const void *words[128]
    cdef uint32_t count = 0
    cdef int rc
    cdef StatPage page
    if len(pages) > ZR_LIVES_MAX:
        raise error_for(ZR_E_inval, f"{len(pages)} pages")
    for page in pages:
        words[count] = &page.page.life
        count += 1
    with nogil:
        rc = zr_life_watch(words, count, eventfd)
    check(rc)
