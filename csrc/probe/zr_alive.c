#include "probe/zr_alive.h"

#define CHANCE 1e-9

uint32_t zr_alive_in_a_row(double loss, double chance)
{
    uint32_t count = 1;

    for (double left = loss; left > chance && count < ZR_ALIVE_K_MAX; left *= loss)
        count++;
    return count;
}

zr_ns_t zr_alive_dead_after(uint16_t rate, double loss, uint32_t longest)
{
    uint32_t count = ZR_MAX(zr_alive_in_a_row(ZR_MAX(loss, ZR_ALIVE_LOSS), CHANCE), 2 * ZR_MIN(longest, 1u << 20));
    zr_ns_t silence = ZR_SEC((zr_ns_t)count) / ZR_MAX(rate, 1);

    return ZR_MIN(ZR_MAX(silence, ZR_ALIVE_MIN), ZR_ALIVE_MAX);
}

void zr_alive_init(zr_alive *alive, uint16_t rate, zr_ns_t now)
{
    *alive = (zr_alive){ .promise = rate, .keep = rate, .dead_after = ZR_ALIVE_MAX, .heard = now, .since = now };
}

static bool turn(zr_alive *alive, bool *what, bool to, zr_ns_t now)
{
    bool was = zr_alive_up(alive);

    if (*what == to)
        return false;
    *what = to;
    if (was != zr_alive_up(alive)) {
        alive->since = now;
        alive->flaps += was;
    }
    return true;
}

bool zr_alive_on_heard(zr_alive *alive, zr_ns_t now)
{
    alive->heard = now;
    return turn(alive, &alive->deaf, false, now);
}

bool zr_alive_on_told(zr_alive *alive, uint16_t promise, uint16_t repeated, bool deaf, zr_ns_t now)
{
    bool changed = alive->theirs != promise;

    alive->theirs = promise;
    if (repeated == alive->promise && alive->keep != alive->promise) {
        alive->keep = alive->promise;
        changed = true;
    }
    return turn(alive, &alive->unheard, deaf, now) || changed;
}

bool zr_alive_on_deadline(zr_alive *alive, zr_ns_t listened, zr_ns_t now)
{
    if (alive->theirs == 0 || listened - alive->heard < alive->dead_after)
        return false;
    return turn(alive, &alive->deaf, true, now);
}

bool zr_alive_set_rate(zr_alive *alive, uint16_t rate)
{
    if (rate == alive->promise)
        return false;
    alive->promise = rate;
    alive->keep = ZR_MAX(alive->keep, rate);
    return true;
}
