#include "load/zr_gen.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "net/zr_udp.h"
#include "time/zr_clock.h"

#define SNDBUF        (8u << 20)
#define SEGMENTS_MAX  64u    /* the kernel's UDP_MAX_SEGMENTS */
#define SEGMENT_BYTES 65000u /* of one message */
#define NAP_MAX       ZR_MS(50)
#define PPS_MAX       10000000u
#define STREAMS_MAX   65536u

typedef struct gen_stream {
    struct sockaddr_storage to;
    uint64_t number, sent;
} gen_stream;

enum word { DUE, SENT, REFUSED, FRAMES, LATE, CALLS, LATE_MAX, BUSY, RUN, WORDS };

struct zr_gen {
    zr_gen_conf conf;
    int fd;
    socklen_t to_len;
    bool ramped; /* the first run is over */
    atomic_bool stop;
    _Atomic uint64_t words[WORDS]; /* written by the running thread only */
    zr_mark_text text;
    struct mmsghdr msgs[ZR_GEN_FRAME_MAX];
    struct iovec iovs[ZR_GEN_FRAME_MAX];
    alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(uint16_t))];
    gen_stream *streams;
    uint8_t *frame; /* its packets, one behind the other */
};

static void add(zr_gen *gen, enum word word, uint64_t by)
{
    uint64_t now = atomic_load_explicit(&gen->words[word], memory_order_relaxed);
    atomic_store_explicit(&gen->words[word], now + by, memory_order_relaxed);
}

static uint64_t get(const zr_gen *gen, enum word word)
{
    return atomic_load_explicit(&gen->words[word], memory_order_relaxed);
}

static size_t streams_at(void)
{
    return zr_round_up(sizeof(zr_gen), ZR_CACHELINE);
}

static size_t frame_at(const zr_gen_conf *conf)
{
    return zr_round_up(streams_at() + conf->streams * sizeof(gen_stream), ZR_CACHELINE);
}

static bool sound(const zr_gen_conf *conf)
{
    return conf->streams > 0 && conf->streams <= STREAMS_MAX && conf->frame > 0 && conf->frame <= ZR_GEN_FRAME_MAX &&
           conf->size >= ZR_MARK_HEAD && conf->size <= ZR_MARK_SIZE_MAX && conf->pps > 0 && conf->pps <= PPS_MAX &&
           conf->payload_type < 128 && conf->ramp >= 0;
}

size_t zr_gen_bytes(const zr_gen_conf *conf)
{
    return sound(conf) ? frame_at(conf) + (size_t)conf->frame * conf->size : 0;
}

/* Messages of a frame, always the same bytes: only where they go and what they say changes. */
static uint32_t per_message(const zr_gen_conf *conf)
{
    return conf->segment ? ZR_MAX(1u, ZR_MIN(SEGMENTS_MAX, SEGMENT_BYTES / conf->size)) : 1;
}

static void lay_messages(zr_gen *gen)
{
    uint32_t step = per_message(&gen->conf), size = gen->conf.size;
    struct cmsghdr *c = (void *)gen->control;
    uint16_t segment = (uint16_t)size;

    c->cmsg_level = IPPROTO_UDP;
    c->cmsg_type = UDP_SEGMENT;
    c->cmsg_len = CMSG_LEN(sizeof segment);
    memcpy(CMSG_DATA(c), &segment, sizeof segment);
    for (uint32_t i = 0; i * step < gen->conf.frame; i++) {
        uint32_t count = ZR_MIN(step, gen->conf.frame - i * step);
        gen->iovs[i] = (struct iovec){ .iov_base = gen->frame + (size_t)i * step * size, .iov_len = count * size };
        gen->msgs[i].msg_hdr = (struct msghdr){ .msg_iov = &gen->iovs[i], .msg_iovlen = 1 };
        if (count > 1) {
            gen->msgs[i].msg_hdr.msg_control = gen->control;
            gen->msgs[i].msg_hdr.msg_controllen = sizeof gen->control;
        }
    }
}

zr_gen *zr_gen_open(void *mem, const zr_gen_conf *conf, const zr_addr *from, const zr_addr *to)
{
    zr_gen *gen = mem;

    if (!sound(conf) || (uintptr_t)mem % ZR_CACHELINE != 0) {
        errno = EINVAL;
        return NULL;
    }
    memset(gen, 0, zr_gen_bytes(conf));
    gen->conf = *conf;
    gen->streams = (void *)((uint8_t *)mem + streams_at());
    gen->frame = (uint8_t *)mem + frame_at(conf);
    zr_mark_text_init(&gen->text);
    lay_messages(gen);
    for (uint32_t i = 0; i < conf->streams; i++) {
        gen->to_len = zr_udp_to_sockaddr(&gen->streams[i].to, &to[i], from->family);
        if (gen->to_len == 0) {
            errno = EAFNOSUPPORT;
            return NULL;
        }
    }
    gen->fd = zr_udp_open(from, 0, SNDBUF, 0);
    return gen->fd < 0 ? NULL : gen;
}

void zr_gen_close(zr_gen *gen)
{
    close(gen->fd);
    gen->fd = -1;
}

static void write_frame(zr_gen *gen, uint32_t stream, zr_ns_t due)
{
    gen_stream *s = &gen->streams[stream];
    zr_mark mark = { .ssrc = gen->conf.ssrc + stream, .payload_type = gen->conf.payload_type, .due = due };

    for (uint32_t i = 0; i < gen->conf.frame; i++) {
        mark.number = s->number++;
        mark.last = i + 1 == gen->conf.frame;
        zr_mark_write(gen->frame + (size_t)i * gen->conf.size, gen->conf.size, &mark, &gen->text);
    }
}

/* What the kernel does not take is refused for good: a load that waits for the kernel is no longer on time. */
static void send_frame(zr_gen *gen, uint32_t stream)
{
    uint32_t step = per_message(&gen->conf), count = (gen->conf.frame + step - 1) / step, done = 0;
    uint64_t sent = 0, calls = 0;

    for (uint32_t i = 0; i < count; i++) {
        gen->msgs[i].msg_hdr.msg_name = &gen->streams[stream].to;
        gen->msgs[i].msg_hdr.msg_namelen = gen->to_len;
    }
    while (done < count) {
        int rc = sendmmsg(gen->fd, gen->msgs + done, count - done, 0);
        calls++;
        if (rc < 0 && (errno == EINTR || errno == ECONNREFUSED)) /* the latter: of an earlier packet, told once */
            continue;
        for (int i = 0; i < rc; i++)
            sent += gen->iovs[done + (uint32_t)i].iov_len / gen->conf.size;
        done += rc > 0 ? (uint32_t)rc : 1;
    }
    gen->streams[stream].sent += sent;
    add(gen, CALLS, calls);
    add(gen, SENT, sent);
    add(gen, REFUSED, gen->conf.frame - sent);
    add(gen, DUE, gen->conf.frame);
    add(gen, FRAMES, 1);
}

/* Sleeps until `until` or a stop; the time it woke. */
static zr_ns_t sleep_until(zr_gen *gen, zr_ns_t until, zr_ns_t now)
{
    while (now < until && !atomic_load_explicit(&gen->stop, memory_order_relaxed)) {
        zr_ns_t nap = ZR_MIN(until - now, NAP_MAX);
        struct timespec ts = { .tv_sec = 0, .tv_nsec = nap };
        (void)nanosleep(&ts, NULL);
        now = zr_clock_now();
    }
    return now;
}

static bool began(const zr_gen *gen, uint32_t stream, zr_ns_t at)
{
    return gen->ramped || at >= gen->conf.ramp * (zr_ns_t)stream / (zr_ns_t)gen->conf.streams;
}

void zr_gen_run(zr_gen *gen, zr_ns_t length)
{
    const zr_gen_conf *conf = &gen->conf;
    zr_ns_t start = zr_clock_now(), now = start, woke = start;
    uint64_t rate = (uint64_t)conf->pps * conf->streams;

    (void)prctl(PR_SET_TIMERSLACK, 1ul); /* of this thread: naps end when they should */
    for (uint64_t tick = 0;; tick++) {
        zr_ns_t at = (zr_ns_t)(tick * conf->frame * 1000000000u / rate); /* 10 hours at 500 k packets a second */
        uint32_t stream = (uint32_t)(tick % conf->streams);
        if (at >= length || atomic_load_explicit(&gen->stop, memory_order_relaxed))
            break;
        if (!began(gen, stream, at))
            continue;
        if (now < start + at) {
            add(gen, BUSY, (uint64_t)(now - woke));
            woke = now = sleep_until(gen, start + at, now);
            if (now < start + at) /* stopped */
                break;
        }
        if (now - start - at > ZR_GEN_LATE)
            add(gen, LATE, 1);
        if ((uint64_t)(now - start - at) > get(gen, LATE_MAX))
            atomic_store_explicit(&gen->words[LATE_MAX], (uint64_t)(now - start - at), memory_order_relaxed);
        write_frame(gen, stream, start + at);
        send_frame(gen, stream);
        now = zr_clock_now();
    }
    add(gen, BUSY, (uint64_t)(now - woke));
    add(gen, RUN, (uint64_t)(now - start));
    gen->ramped = true;
}

void zr_gen_stop(zr_gen *gen)
{
    atomic_store_explicit(&gen->stop, true, memory_order_relaxed);
}

void zr_gen_counted(const zr_gen *gen, zr_gen_counts *counts)
{
    *counts = (zr_gen_counts){
        .due = get(gen, DUE),
        .sent = get(gen, SENT),
        .refused = get(gen, REFUSED),
        .frames = get(gen, FRAMES),
        .late = get(gen, LATE),
        .calls = get(gen, CALLS),
        .late_ns_max = get(gen, LATE_MAX),
        .busy_ns = get(gen, BUSY),
        .run_ns = get(gen, RUN),
    };
}

uint64_t zr_gen_sent(const zr_gen *gen, uint32_t stream)
{
    return gen->streams[stream].sent;
}
