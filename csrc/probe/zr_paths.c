#include "probe/zr_paths.h"

#include <string.h>

#include "base/zr_sip.h"
#include "time/zr_rate.h"

#define ANSWER_EVERY ZR_MS(2) /* eight addresses in a hurry ask 400 a second */
#define ANSWER_BURST 32
#define HURRY_LASTS  ZR_MS(150) /* beyond the last word of it */
#define UNKNOWN      ZR_MS(100) /* how long an answer may take where no round trip was measured */
#define LESS_LOSS    (3.0 / 32)
#define NEARER_US    2000u

void zr_paths_init(zr_paths *paths, const zr_addr *used, uint64_t seed, zr_ns_t now)
{
    memset(paths, 0, sizeof *paths);
    paths->one[0].addr = *used;
    paths->count = 1;
    paths->seed = seed;
    paths->candidate = ZR_PATHS_NONE;
    paths->next = now;
}

uint32_t zr_paths_find(const zr_paths *paths, const zr_addr *addr)
{
    for (uint32_t i = 0; i < paths->count; i++)
        if (zr_addr_eq(&paths->one[i].addr, addr))
            return i;
    return ZR_PATHS_NONE;
}

static bool all_different(const zr_addr *addrs, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t j = 0; j < i; j++)
            if (zr_addr_eq(&addrs[i], &addrs[j]))
                return false;
    return true;
}

bool zr_paths_set(zr_paths *paths, const zr_addr *addrs, uint32_t count, zr_ns_t now)
{
    zr_paths_one next[ZR_PATHS_MAX] = { 0 };
    uint32_t used = ZR_PATHS_NONE;

    if (count > ZR_PATHS_MAX || !all_different(addrs, count))
        return false;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t known = zr_paths_find(paths, &addrs[i]);
        if (known != ZR_PATHS_NONE)
            next[i] = paths->one[known];
        next[i].addr = addrs[i];
        if (known == paths->used)
            used = i;
    }
    if (used == ZR_PATHS_NONE)
        return false;
    memcpy(paths->one, next, sizeof next);
    paths->count = count;
    paths->used = used;
    paths->candidate = ZR_PATHS_NONE;
    paths->owed = 0; /* their numbers are others now */
    paths->turn = 0;
    paths->due = count > 1 ? (1u << count) - 1 : 0;
    paths->next = now + ZR_PATHS_EVERY;
    return true;
}

void zr_paths_on_challenge(zr_paths *paths, uint64_t token, const zr_addr *from, zr_ns_t now)
{
    uint32_t listed = zr_paths_find(paths, from);

    if (paths->owed == ZR_PATHS_ANSWERS || !zr_rate_take(&paths->answers_full_at, now, ANSWER_EVERY, ANSWER_BURST))
        return;
    uint32_t at = (paths->first + paths->owed++) % ZR_PATHS_ANSWERS;
    paths->answers[at].token = token;
    paths->answers[at].to = listed;
}

static bool find_asked(const zr_paths *paths, uint64_t token, uint32_t *which, uint32_t *slot)
{
    for (uint32_t i = 0; i < paths->count; i++) {
        for (uint32_t k = 0; k < ZR_PATHS_ASKED; k++) {
            if (paths->one[i].ring[k].sent != 0 && paths->one[i].ring[k].token == token) {
                *which = i;
                *slot = k;
                return true;
            }
        }
    }
    return false;
}

bool zr_paths_asked(const zr_paths *paths, uint64_t token)
{
    uint32_t which, slot;
    return find_asked(paths, token, &which, &slot);
}

static void note(zr_paths_one *one, uint32_t slot, bool lost)
{
    one->ring[slot].sent = 0;
    one->outcomes = one->outcomes << 1 | lost;
    one->known = ZR_MIN(one->known + 1, 32u);
    uint32_t latest = (1u << ZR_PATHS_KNOWN) - 1;
    if (one->known >= ZR_PATHS_KNOWN && (one->outcomes & latest) == latest)
        one->proven = false;
}

static void measure(zr_paths_one *one, zr_ns_t trip)
{
    uint32_t us = (uint32_t)ZR_MAX(trip / 1000, 1);

    if (one->srtt_us == 0) {
        one->srtt_us = us;
        one->rttvar_us = us / 2;
        return;
    }
    uint32_t off = us > one->srtt_us ? us - one->srtt_us : one->srtt_us - us;
    one->rttvar_us = (3 * one->rttvar_us + off) / 4;
    one->srtt_us = (7 * one->srtt_us + us) / 8;
}

double zr_paths_loss(const zr_paths_one *one)
{
    uint32_t mask = one->known == 32 ? UINT32_MAX : (1u << one->known) - 1;
    return one->known == 0 ? 0 : (double)__builtin_popcount(one->outcomes & mask) / one->known;
}

static void use(zr_paths *paths, uint32_t which)
{
    paths->used = which;
    paths->candidate = ZR_PATHS_NONE;
    paths->moved = true;
    paths->moves++;
}

/* The used one is silent: the nearest of those that answered since. */
static void replace(zr_paths *paths, uint32_t least)
{
    const zr_paths_one *used = &paths->one[paths->used];
    uint32_t best = ZR_PATHS_NONE;

    if (used->missed < least)
        return;
    for (uint32_t i = 0; i < paths->count; i++) {
        const zr_paths_one *one = &paths->one[i];
        if (i != paths->used && one->proven && one->answered >= used->missed_from && one->missed < ZR_PATHS_MISSED &&
            (best == ZR_PATHS_NONE || one->srtt_us < paths->one[best].srtt_us))
            best = i;
    }
    if (best != ZR_PATHS_NONE)
        use(paths, best);
}

static bool better(const zr_paths_one *one, const zr_paths_one *than)
{
    double gain = zr_paths_loss(than) - zr_paths_loss(one);

    if (!one->proven || one->known < ZR_PATHS_KNOWN || than->known < ZR_PATHS_KNOWN)
        return false;
    if (gain >= LESS_LOSS)
        return true;
    return gain >= 0 && one->srtt_us + NEARER_US <= than->srtt_us &&
           5 * (uint64_t)one->srtt_us <= 4 * (uint64_t)than->srtt_us;
}

static void improve(zr_paths *paths, zr_ns_t now)
{
    const zr_paths_one *used = &paths->one[paths->used];
    uint32_t best = ZR_PATHS_NONE;

    for (uint32_t i = 0; i < paths->count; i++) {
        if (i != paths->used && better(&paths->one[i], used) &&
            (best == ZR_PATHS_NONE || better(&paths->one[i], &paths->one[best])))
            best = i;
    }
    if (best != paths->candidate) {
        paths->candidate = best;
        paths->better_since = now;
    }
    if (best != ZR_PATHS_NONE && now - paths->better_since >= ZR_PATHS_BETTER)
        use(paths, best);
}

static bool hurrying(const zr_paths *paths, zr_ns_t now)
{
    return now < paths->hurry_until;
}

static void choose(zr_paths *paths, zr_ns_t now)
{
    replace(paths, hurrying(paths, now) ? ZR_PATHS_MISSED : ZR_PATHS_KNOWN);
    if (!hurrying(paths, now))
        improve(paths, now);
}

void zr_paths_on_answer(zr_paths *paths, uint64_t token, zr_ns_t now)
{
    uint32_t which, slot;

    if (!find_asked(paths, token, &which, &slot))
        return;
    zr_paths_one *one = &paths->one[which];
    zr_ns_t sent = one->ring[slot].sent;
    one->answered = ZR_MAX(one->answered, sent);
    one->missed = 0;
    measure(one, now - sent);
    note(one, slot, false);
    one->proven = true;
    choose(paths, now);
}

static zr_ns_t patience(const zr_paths_one *one)
{
    if (one->srtt_us == 0)
        return UNKNOWN;
    return ZR_US((zr_ns_t)one->srtt_us + 4 * (zr_ns_t)one->rttvar_us) + ZR_PATHS_SLACK;
}

/* When the state of a challenge changes next. */
static zr_ns_t ripe(const zr_paths_one *one, uint32_t slot)
{
    zr_ns_t sent = one->ring[slot].sent;

    if (sent == 0)
        return ZR_NEVER;
    return one->ring[slot].overdue ? sent + ZR_PATHS_LATE : sent + ZR_MIN(patience(one), ZR_PATHS_LATE);
}

void zr_paths_hurry(zr_paths *paths, zr_ns_t now)
{
    if (!hurrying(paths, now)) {
        paths->hurry_since = now;
        paths->next = now;
    }
    paths->hurry_until = now + HURRY_LASTS;
}

zr_ns_t zr_paths_deadline(const zr_paths *paths)
{
    if (paths->owed > 0 || paths->due != 0)
        return 0;
    if (paths->count < 2)
        return ZR_NEVER;
    zr_ns_t at = paths->next;
    for (uint32_t i = 0; i < paths->count; i++)
        for (uint32_t k = 0; k < ZR_PATHS_ASKED; k++)
            at = ZR_MIN(at, ripe(&paths->one[i], k));
    return at;
}

static void expire(zr_paths_one *one, zr_ns_t now)
{
    for (uint32_t k = 0; k < ZR_PATHS_ASKED; k++) {
        if (now < ripe(one, k))
            continue;
        zr_ns_t sent = one->ring[k].sent;
        if (!one->ring[k].overdue) {
            one->ring[k].overdue = true;
            if (sent > one->answered) { /* else a later one was answered: lost, and no silence */
                one->missed_from = one->missed == 0 ? sent : ZR_MIN(one->missed_from, sent);
                one->missed++;
            }
        }
        if (now >= sent + ZR_PATHS_LATE)
            note(one, k, true);
    }
}

/* Who is asked now. */
static void ask(zr_paths *paths, zr_ns_t now)
{
    if (hurrying(paths, now)) {
        paths->due = (1u << paths->count) - 1;
        paths->next = now + (now - paths->hurry_since < ZR_PATHS_SOON ? ZR_PATHS_HURRY : ZR_PATHS_SLOWLY);
        return;
    }
    paths->turn = (paths->turn + 1) % paths->count;
    const zr_paths_one *one = &paths->one[paths->turn];
    if (one->proven || paths->turn == paths->used || one->asked == 0 || now - one->asked >= ZR_PATHS_DEAD)
        paths->due |= 1u << paths->turn;
    paths->next = now + ZR_PATHS_EVERY;
}

void zr_paths_on_deadline(zr_paths *paths, zr_ns_t now)
{
    if (paths->count < 2)
        return;
    for (uint32_t i = 0; i < paths->count; i++)
        expire(&paths->one[i], now);
    choose(paths, now);
    if (now >= paths->next)
        ask(paths, now);
}

/* Two keys out of one seed: what is kept secret is 64 bits either way. */
static uint64_t token_of(const zr_paths *paths)
{
    return zr_sip(paths->seed, ~paths->seed, paths->tokens);
}

bool zr_paths_next(const zr_paths *paths, zr_paths_out *out)
{
    if (paths->owed > 0) {
        uint32_t to = paths->answers[paths->first].to;
        *out = (zr_paths_out){ true, to == ZR_PATHS_NONE ? paths->used : to, paths->answers[paths->first].token };
        return true;
    }
    if (paths->due == 0)
        return false;
    *out = (zr_paths_out){ false, (uint32_t)__builtin_ctz(paths->due), token_of(paths) };
    return true;
}

void zr_paths_sent(zr_paths *paths, const zr_paths_out *out, zr_ns_t now)
{
    if (out->answer) {
        paths->first = (paths->first + 1) % ZR_PATHS_ANSWERS;
        paths->owed--;
        return;
    }
    zr_paths_one *one = &paths->one[out->to];
    uint32_t slot = one->next++ % ZR_PATHS_ASKED;
    if (one->ring[slot].sent != 0)
        note(one, slot, true); /* the oldest of many */
    one->ring[slot].token = out->token;
    one->ring[slot].sent = one->asked = now;
    one->ring[slot].overdue = false;
    paths->due &= ~(1u << out->to);
    paths->tokens++;
}

bool zr_paths_take_moved(zr_paths *paths)
{
    bool moved = paths->moved;

    paths->moved = false;
    return moved;
}

bool zr_paths_check(const zr_paths *paths)
{
    if (paths->count == 0 || paths->count > ZR_PATHS_MAX || paths->used >= paths->count ||
        paths->owed > ZR_PATHS_ANSWERS || paths->due >> paths->count != 0)
        return false;
    for (uint32_t i = 0; i < paths->count; i++) {
        const zr_paths_one *one = &paths->one[i];
        if (zr_paths_find(paths, &one->addr) != i || one->known > 32 || (one->proven && one->answered == 0))
            return false;
    }
    return true;
}
