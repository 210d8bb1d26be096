#include "forward/zr_journal.h"

#include <stdatomic.h>
#include <string.h>

#include "forward/zr_item.h"

#define MAGIC   0x006E72756F6A727Au /* "zrjourn\0", read as a little-endian word */
#define VERSION 1u
#define TRACKS  (size_t) ZR_TRACKS_MAX
#define SOURCES (size_t) ZR_JOURNAL_SOURCES

enum part { PART_OPEN, PART_TRACK, PART_BIND, PART_SOURCE, PART_ADD, PART_ADDR, PARTS };

/* Our process may be killed between any two instructions; what it has stored is seen in this order by then. */
static void in_order(void)
{
    atomic_signal_fence(memory_order_seq_cst);
}

static void lay_out(uint32_t streams, uint32_t ingress, uint32_t subs, size_t at[PARTS + 1])
{
    const size_t places[PARTS] = { streams, streams * TRACKS, ingress, ingress * SOURCES, subs, subs * TRACKS };

    at[0] = 0;
    for (int part = 0; part < PARTS; part++)
        at[part + 1] = at[part] + places[part];
}

static zr_cmd *place(zr_journal *j, enum part part, size_t number)
{
    size_t at[PARTS + 1];

    lay_out(j->streams_max, j->ingress_max, j->subs_max, at);
    return &j->places[at[part] + number];
}

static uint64_t sum(uint64_t hash, const void *data, size_t bytes)
{
    const uint8_t *at = data;

    for (size_t i = 0; i + 4 <= bytes; i += 4) {
        uint32_t word;
        memcpy(&word, at + i, sizeof word);
        hash = (hash ^ word) * 0x100000001B3u;
        hash ^= hash >> 29;
    }
    return hash | 1; /* never 0 */
}

static uint32_t cmd_sum(const zr_cmd *cmd)
{
    return (uint32_t)sum(MAGIC, cmd, offsetof(zr_cmd, tail));
}

uint64_t zr_journal_redo_sum(const zr_journal *j)
{
    return sum(j->redo_at, &j->redo, sizeof j->redo);
}

size_t zr_journal_bytes(uint32_t streams_max, uint32_t ingress_max, uint32_t subs_max)
{
    size_t at[PARTS + 1];

    lay_out(streams_max, ingress_max, subs_max, at);
    return sizeof(zr_journal) + at[PARTS] * sizeof(zr_cmd);
}

int zr_journal_init(zr_journal *j, uint32_t streams_max, uint32_t ingress_max, uint32_t subs_max)
{
    if ((uintptr_t)j % ZR_CACHELINE != 0)
        return ZR_E_inval;
    j->version = VERSION;
    j->streams_max = streams_max;
    j->ingress_max = ingress_max;
    j->subs_max = subs_max;
    j->magic = MAGIC;
    return ZR_OK;
}

int zr_journal_attach(zr_journal *j, size_t bytes)
{
    if ((uintptr_t)j % ZR_CACHELINE != 0)
        return ZR_E_inval;
    if (bytes < sizeof *j || j->magic != MAGIC || j->version != VERSION ||
        zr_journal_bytes(j->streams_max, j->ingress_max, j->subs_max) != bytes || j->streams_used > j->streams_max ||
        j->ingress_used > j->ingress_max || j->subs_used > j->subs_max)
        return ZR_E_version;
    if (j->redo_sum != 0 && j->redo_sum == zr_journal_redo_sum(j) &&
        j->redo_at < (bytes - sizeof *j) / sizeof(zr_cmd)) /* begun, perhaps half done: do it again */
        j->places[j->redo_at] = j->redo;
    in_order();
    j->redo_sum = 0;
    return ZR_OK;
}

static void put(zr_journal *j, zr_cmd *at, const zr_cmd *cmd)
{
    j->redo_sum = 0;
    in_order();
    j->redo_at = (uint64_t)(at - j->places);
    j->redo = *cmd;
    j->redo.pad = 0;
    j->redo.tail = cmd_sum(&j->redo);
    in_order();
    j->redo_sum = zr_journal_redo_sum(j);
    in_order();
    *at = j->redo;
    in_order();
    j->redo_sum = 0;
}

static void erase(zr_journal *j, zr_cmd *at)
{
    if (at->op != ZR_CMD_nop)
        put(j, at, &(zr_cmd){ .op = ZR_CMD_nop });
}

static void raise(uint32_t *used, uint32_t slot)
{
    *used = ZR_MAX(*used, slot + 1);
    in_order();
}

static const zr_cmd *open_of(zr_journal *j, uint32_t stream)
{
    const zr_cmd *open = stream < j->streams_max ? place(j, PART_OPEN, stream) : NULL;
    return open != NULL && open->op == ZR_CMD_stream_open ? open : NULL;
}

static void note_source(zr_journal *j, const zr_cmd *cmd)
{
    const zr_cmd *bind = place(j, PART_BIND, cmd->a), *open = open_of(j, bind->b);
    zr_cmd noted = *cmd;

    if (bind->op != ZR_CMD_ingress_bind || open == NULL)
        return;
    noted.seq = (uint32_t)bind->y;
    noted.y = open->x;
    for (size_t i = 0; i < SOURCES; i++) {
        zr_cmd *at = place(j, PART_SOURCE, cmd->a * SOURCES + i);
        bool free = at->op == ZR_CMD_nop || at->seq != noted.seq || at->y != noted.y;
        if (!free && !zr_addr_eq(&at->addr, &cmd->addr))
            continue;
        put(j, at, &noted);
        return;
    }
}

void zr_journal_note(zr_journal *j, const zr_cmd *cmd)
{
    zr_cmd noted = *cmd;
    const zr_cmd *open;

    if (j == NULL)
        return;
    noted.seq = 0;
    switch (cmd->op) {
    case ZR_CMD_stream_open:
        if (cmd->a >= j->streams_max)
            return;
        raise(&j->streams_used, cmd->a);
        noted.seq = ++j->lives;
        put(j, place(j, PART_OPEN, cmd->a), &noted);
        return;
    case ZR_CMD_stream_epoch: /* the stream lives on: so do its subscribers. Tracks and sources name their epoch */
        if ((open = open_of(j, cmd->a)) == NULL)
            return;
        noted.op = ZR_CMD_stream_open;
        noted.seq = open->seq;
        put(j, place(j, PART_OPEN, cmd->a), &noted);
        return;
    case ZR_CMD_stream_close:
        if (cmd->a < j->streams_max)
            erase(j, place(j, PART_OPEN, cmd->a));
        return;
    case ZR_CMD_stream_track:
        if ((open = open_of(j, cmd->a)) == NULL || cmd->b >= TRACKS)
            return;
        noted.seq = open->seq;
        noted.y = open->x;
        put(j, place(j, PART_TRACK, cmd->a * TRACKS + cmd->b), &noted);
        return;
    case ZR_CMD_ingress_bind:
        if ((open = open_of(j, cmd->b)) == NULL || cmd->a >= j->ingress_max)
            return;
        raise(&j->ingress_used, cmd->a);
        noted.seq = open->seq;
        noted.y = ++j->lives;
        put(j, place(j, PART_BIND, cmd->a), &noted);
        return;
    case ZR_CMD_ingress_source:
        if (cmd->a < j->ingress_max)
            note_source(j, cmd);
        return;
    case ZR_CMD_ingress_close:
        if (cmd->a < j->ingress_max)
            erase(j, place(j, PART_BIND, cmd->a));
        return;
    case ZR_CMD_sub_add:
        if ((open = open_of(j, cmd->b)) == NULL || cmd->a >= j->subs_max)
            return;
        raise(&j->subs_used, cmd->a);
        noted.seq = open->seq;
        noted.y = ++j->lives;
        put(j, place(j, PART_ADD, cmd->a), &noted);
        return;
    case ZR_CMD_sub_addr:
        if (cmd->a >= j->subs_max || cmd->b >= TRACKS || place(j, PART_ADD, cmd->a)->op != ZR_CMD_sub_add)
            return;
        noted.seq = (uint32_t)place(j, PART_ADD, cmd->a)->y;
        put(j, place(j, PART_ADDR, cmd->a * TRACKS + cmd->b), &noted);
        return;
    case ZR_CMD_sub_drop:
        if (cmd->a < j->subs_max)
            erase(j, place(j, PART_ADD, cmd->a));
        return;
    case ZR_CMD_reset:
        zr_journal_clear(j);
        return;
    default:
        return;
    }
}

/* Killed halfway, some are left: the command that says so was not released and is executed again. */
void zr_journal_clear(zr_journal *j)
{
    for (uint32_t i = 0; i < j->streams_used; i++)
        erase(j, place(j, PART_OPEN, i));
    for (uint32_t i = 0; i < j->ingress_used; i++)
        erase(j, place(j, PART_BIND, i));
    for (uint32_t i = 0; i < j->subs_used; i++)
        erase(j, place(j, PART_ADD, i));
    in_order();
    j->streams_used = j->ingress_used = j->subs_used = 0;
}

static bool sound(zr_journal *j, const zr_cmd *at, enum zr_cmd_op op)
{
    if (at->op == ZR_CMD_nop && at->tail == 0)
        return false;
    if (at->tail == cmd_sum(at))
        return at->op == op;
    j->refused++;
    return false;
}

/* The place's command, when it is whole and what it hangs on still lives. */
static bool in_force(zr_journal *j, enum part part, uint32_t slot, uint32_t sub, zr_cmd *cmd)
{
    static const enum zr_cmd_op ops[PARTS] = { ZR_CMD_stream_open,    ZR_CMD_stream_track, ZR_CMD_ingress_bind,
                                               ZR_CMD_ingress_source, ZR_CMD_sub_add,      ZR_CMD_sub_addr };
    bool many = part == PART_TRACK || part == PART_SOURCE || part == PART_ADDR;
    const zr_cmd *at = place(j, part, many ? slot * TRACKS + sub : slot), *open, *on;

    if (!sound(j, at, ops[part]))
        return false;
    *cmd = *at;
    cmd->seq = 0;
    switch (part) {
    case PART_OPEN:
        return true;
    case PART_TRACK:
        open = open_of(j, slot);
        return open != NULL && at->seq == open->seq && at->y == open->x;
    case PART_BIND:
    case PART_ADD:
        open = open_of(j, at->b);
        return open != NULL && at->seq == open->seq;
    case PART_SOURCE:
        on = place(j, PART_BIND, slot);
        open = open_of(j, on->b);
        return on->op == ZR_CMD_ingress_bind && at->seq == (uint32_t)on->y && open != NULL && on->seq == open->seq &&
               at->y == open->x;
    case PART_ADDR:
        on = place(j, PART_ADD, slot);
        open = open_of(j, on->b);
        return on->op == ZR_CMD_sub_add && at->seq == (uint32_t)on->y && open != NULL && on->seq == open->seq;
    case PARTS:
        break;
    }
    return false;
}

int zr_journal_next(zr_journal *j, zr_journal_cursor *c, zr_cmd *cmd)
{
    _Static_assert(ZR_JOURNAL_SOURCES == ZR_TRACKS_MAX, "one step width for all parts with several places a slot");
    const uint32_t used[PARTS] = { j->streams_used, j->streams_used, j->ingress_used,
                                   j->ingress_used, j->subs_used,    j->subs_used };

    for (; c->part < PARTS; c->part++, c->slot = 0) {
        bool many = c->part == PART_TRACK || c->part == PART_SOURCE || c->part == PART_ADDR;
        for (; c->slot < used[c->part]; c->slot++, c->sub = 0) {
            /* Only under a slot that has a first place: the others' are never even mapped. */
            if (many && place(j, c->part - 1, c->slot)->op == ZR_CMD_nop)
                continue;
            while (c->sub < (many ? TRACKS : 1u))
                if (in_force(j, c->part, c->slot, c->sub++, cmd))
                    return ZR_OK;
        }
    }
    return ZR_E_missing;
}
