/* Commands about sessions. Their keys come in parts, each of which fits into a record, and are wiped when they are
 * used. */
#include "forward/zr_fwd_priv.h"

#include "base/zr_bytes.h"

#define SEALED     256u /* session_add: lanes + this */
#define AT_ONCE    256u /* session_secret: cipher + this */
#define PART_BYTES 16u
#define PARTS_ALL  0xFu

void zr_fwd_forget_told(zr_fwd *fwd)
{
    zr_wipe(&fwd->told, sizeof fwd->told);
}

int zr_fwd_cmd_session_secret(zr_fwd *fwd, const zr_cmd *cmd, uint64_t *value, zr_ns_t now)
{
    zr_keys *keys = &fwd->told.keys;

    (void)value, (void)now;
    if (cmd->b > 3 || (cmd->c & ~AT_ONCE) == ZR_CIPHER_PLAIN || (cmd->c & ~AT_ONCE) >= ZR_CIPHER_COUNT)
        return ZR_E_inval;
    if (cmd->b == 0 || cmd->a != fwd->told.session)
        zr_fwd_forget_told(fwd);
    fwd->told.session = cmd->a;
    fwd->told.parts |= 1u << cmd->b;
    keys->cipher = (uint8_t)(cmd->c & ~AT_ONCE);
    keys->initiator = (cmd->c & AT_ONCE) != 0;
    keys->age_ms = cmd->d;
    uint8_t *to = (cmd->b < 2 ? keys->send : keys->recv) + cmd->b % 2 * PART_BYTES;
    zr_put64(to, cmd->x);
    zr_put64(to + 8, cmd->y);
    return ZR_OK;
}

static bool told_all(const zr_fwd *fwd, uint32_t session)
{
    return fwd->told.parts == PARTS_ALL && fwd->told.session == session;
}

int zr_fwd_cmd_session_rekey(zr_fwd *fwd, const zr_cmd *cmd, uint64_t *value, zr_ns_t now)
{
    (void)value;
    int rc = told_all(fwd, cmd->a) ? zr_lane_session_rekey(fwd->lane, cmd->a, cmd->b, cmd->c, &fwd->told.keys, now)
                                   : ZR_E_inval;
    zr_fwd_forget_told(fwd);
    return rc;
}

static int add_session(zr_fwd *fwd, const zr_cmd *cmd, zr_ns_t now)
{
    zr_session_conf conf = { .index = cmd->b, .peer_index = cmd->c, .agent = cmd->addr };
    bool sealed = (cmd->d & SEALED) != 0;
    uint32_t lanes = cmd->d & ~SEALED;

    if (cmd->a >= fwd->conf.lane.sessions_max || cmd->b >= 1u << 26 || cmd->c >= 1u << 26 || lanes > 62 ||
        cmd->x > UINT32_MAX || cmd->y < 100 || cmd->y > 1468 || !zr_fwd_addr_ok(&cmd->addr))
        return ZR_E_inval;
    /* Whoever meant to seal never gets plaintext for it, whatever was lost of what he said. */
    if (sealed != told_all(fwd, cmd->a))
        return ZR_E_inval;
    conf.lanes = (uint8_t)lanes;
    conf.rate_mhz = (uint32_t)cmd->x;
    conf.mtu = (uint16_t)cmd->y;
    if (sealed)
        conf.keys = fwd->told.keys;
    int rc = zr_lane_session_add(fwd->lane, cmd->a, &conf, now);
    zr_wipe(&conf.keys, sizeof conf.keys);
    return rc;
}

int zr_fwd_cmd_session_add(zr_fwd *fwd, const zr_cmd *cmd, uint64_t *value, zr_ns_t now)
{
    (void)value;
    int rc = add_session(fwd, cmd, now);
    zr_fwd_forget_told(fwd);
    return rc;
}

int zr_fwd_cmd_session_drop(zr_fwd *fwd, const zr_cmd *cmd, uint64_t *value, zr_ns_t now)
{
    (void)value, (void)now;
    if (cmd->a >= fwd->conf.lane.sessions_max || !zr_lane_session_open(fwd->lane, cmd->a))
        return ZR_E_missing;
    zr_fwd_session_gone(fwd, cmd->a);
    return ZR_OK;
}

int zr_fwd_cmd_session_rtt(zr_fwd *fwd, const zr_cmd *cmd, uint64_t *value, zr_ns_t now)
{
    (void)value, (void)now;
    if (cmd->a >= fwd->conf.lane.sessions_max)
        return ZR_E_inval;
    return zr_lane_session_set_rtt(fwd->lane, cmd->a, cmd->b);
}

int zr_fwd_cmd_session_mtu(zr_fwd *fwd, const zr_cmd *cmd, uint64_t *value, zr_ns_t now)
{
    (void)value, (void)now;
    return cmd->b > UINT16_MAX ? ZR_E_inval : zr_lane_session_set_mtu(fwd->lane, cmd->a, (uint16_t)cmd->b);
}

int zr_fwd_cmd_session_rate(zr_fwd *fwd, const zr_cmd *cmd, uint64_t *value, zr_ns_t now)
{
    (void)value;
    return zr_lane_session_set_rate(fwd->lane, cmd->a, cmd->x, now);
}

int zr_fwd_cmd_session_path(zr_fwd *fwd, const zr_cmd *cmd, uint64_t *value, zr_ns_t now)
{
    (void)value, (void)now;
    return zr_fwd_addr_ok(&cmd->addr) ? zr_lane_session_list(fwd->lane, cmd->a, cmd->b, &cmd->addr) : ZR_E_inval;
}

int zr_fwd_cmd_session_addr(zr_fwd *fwd, const zr_cmd *cmd, uint64_t *value, zr_ns_t now)
{
    (void)value, (void)now;
    return zr_fwd_addr_ok(&cmd->addr) ? zr_lane_session_set_addr(fwd->lane, cmd->a, &cmd->addr) : ZR_E_inval;
}

int zr_fwd_cmd_session_kick(zr_fwd *fwd, const zr_cmd *cmd, uint64_t *value, zr_ns_t now)
{
    (void)value;
    return zr_lane_session_kick(fwd->lane, cmd->a, now);
}

int zr_fwd_cmd_session_heard(zr_fwd *fwd, const zr_cmd *cmd, uint64_t *value, zr_ns_t now)
{
    zr_ns_t heard = zr_lane_session_heard(fwd->lane, cmd->a);

    *value = heard == 0 ? 1ull << 63 : (uint64_t)(now - heard);
    return zr_lane_session_open(fwd->lane, cmd->a) ? ZR_OK : ZR_E_missing;
}
