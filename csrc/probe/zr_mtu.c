#include "probe/zr_mtu.h"

#include <string.h>

#include "probe/zr_alive.h"

#define CHANCE 1e-5

void zr_mtu_init(zr_mtu *mtu, uint16_t most, zr_ns_t now)
{
    static const uint16_t steps[] = { ZR_MTU_BASE, 1280, 1400 };

    *mtu = (zr_mtu){ .next = now, .fail_at = ZR_NEVER, .climb_at = ZR_NEVER };
    for (size_t i = 0; i < ZR_LEN(steps) && steps[i] < most; i++)
        mtu->sizes[mtu->count++] = steps[i];
    mtu->sizes[mtu->count++] = most;
    mtu->climbing = mtu->count > 1;
    if (!mtu->climbing)
        mtu->next = ZR_NEVER;
}

static uint16_t at_hand(const zr_mtu *mtu)
{
    return mtu->sizes[mtu->at + mtu->climbing];
}

uint16_t zr_mtu_due(const zr_mtu *mtu, zr_ns_t now)
{
    return !mtu->paused && now >= mtu->next ? at_hand(mtu) : 0;
}

/* From now on the size at hand is another one. */
static void begin(zr_mtu *mtu, zr_ns_t next)
{
    mtu->unanswered = 0;
    mtu->fail_at = ZR_NEVER;
    mtu->next = next;
}

static void climb(zr_mtu *mtu, zr_ns_t now)
{
    mtu->climbing = mtu->at + 1 < mtu->count;
    mtu->climb_at = ZR_NEVER;
    begin(mtu, mtu->climbing || mtu->at > 0 ? now : ZR_NEVER);
}

void zr_mtu_sent(zr_mtu *mtu, uint32_t id, uint32_t token, bool active, zr_ns_t trip, double loss, zr_ns_t now)
{
    uint32_t tries = mtu->climbing ? ZR_MTU_TRIES : ZR_MAX(ZR_MTU_TRIES, zr_alive_in_a_row(loss, CHANCE));
    zr_ns_t patience = trip + ZR_MTU_SLACK;

    mtu->asked[id % ZR_MTU_ASKED].id = id;
    mtu->asked[id % ZR_MTU_ASKED].token = token;
    mtu->asked[id % ZR_MTU_ASKED].size = at_hand(mtu);
    /* By the loss when answers still came, or less: what a black hole swallows is no reason to wait for more. */
    mtu->tries = mtu->unanswered == 0 ? tries : ZR_MIN(mtu->tries, tries);
    mtu->unanswered++;
    if (mtu->unanswered >= ZR_MIN(mtu->tries, ZR_MTU_ASKED / 2) && mtu->fail_at == ZR_NEVER)
        mtu->fail_at = now + patience;
    mtu->active = active;
    mtu->next = now + (active && !mtu->climbing ? ZR_MTU_ACTIVE : patience);
}

bool zr_mtu_asked(const zr_mtu *mtu, uint32_t id, uint32_t token)
{
    uint32_t i = id % ZR_MTU_ASKED;
    return mtu->asked[i].size != 0 && mtu->asked[i].id == id && mtu->asked[i].token == token;
}

bool zr_mtu_on_answer(zr_mtu *mtu, uint32_t id, uint32_t token, zr_ns_t now)
{
    if (!zr_mtu_asked(mtu, id, token))
        return false;
    uint16_t size = mtu->asked[id % ZR_MTU_ASKED].size;
    mtu->asked[id % ZR_MTU_ASKED].size = 0;
    if (size >= at_hand(mtu)) {
        mtu->unanswered = 0;
        mtu->fail_at = ZR_NEVER;
        if (!mtu->climbing && !mtu->active)
            mtu->next = now + ZR_MTU_IDLE;
    }
    if (!mtu->climbing || size != at_hand(mtu))
        return false;
    mtu->at++;
    climb(mtu, now);
    return true;
}

/* The larger size, for a while. */
static void give_up(zr_mtu *mtu, zr_ns_t now)
{
    mtu->climbing = false;
    mtu->climb_at = now + ZR_MTU_AGAIN;
    begin(mtu, mtu->at > 0 ? now : ZR_NEVER);
}

bool zr_mtu_on_deadline(zr_mtu *mtu, zr_ns_t now)
{
    if (mtu->paused)
        return false;
    if (now >= mtu->climb_at)
        climb(mtu, now);
    if (now < mtu->fail_at)
        return false;
    if (mtu->climbing) {
        give_up(mtu, now);
        return false;
    }
    mtu->at = 0;
    climb(mtu, now);
    return true;
}

bool zr_mtu_on_refused(zr_mtu *mtu, uint32_t size, zr_ns_t now)
{
    if (size <= zr_mtu_size(mtu) && mtu->at > 0) {
        zr_mtu_restart(mtu, now);
        return true;
    }
    if (mtu->climbing && size <= at_hand(mtu))
        give_up(mtu, now);
    return false;
}

void zr_mtu_pause(zr_mtu *mtu, bool paused, zr_ns_t now)
{
    if (paused == mtu->paused)
        return;
    mtu->paused = paused;
    if (!paused)
        begin(mtu, mtu->climbing || mtu->at > 0 ? now : ZR_NEVER);
}

void zr_mtu_restart(zr_mtu *mtu, zr_ns_t now)
{
    memset(mtu->asked, 0, sizeof mtu->asked);
    mtu->at = 0;
    climb(mtu, now);
}

void zr_mtu_hurry(zr_mtu *mtu, zr_ns_t now)
{
    if (mtu->next != ZR_NEVER)
        mtu->next = ZR_MIN(mtu->next, now);
}

zr_ns_t zr_mtu_deadline(const zr_mtu *mtu)
{
    return mtu->paused ? ZR_NEVER : ZR_MIN(ZR_MIN(mtu->next, mtu->fail_at), mtu->climb_at);
}
