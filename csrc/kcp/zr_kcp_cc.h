/*
 * zr_kcp_cc.h - congestion control of a conversation as a table of functions.
 *
 * The stock rules (kcp.md section 9) keep counting when the window is not applied (nc = 1), so both entries share them
 * and differ only in `window`.
 */
#ifndef ZR_KCP_CC_H
#define ZR_KCP_CC_H

#include "kcp/zr_kcp.h"

typedef struct zr_kcp_cc {
    const char *name;
    /* A datagram moved snd_una forward. */
    void (*on_advance)(zr_kcp *kcp);
    /* An output is complete; `limit`: the send window it went by. kcp->saw_fast and saw_timeout say what was resent. */
    void (*on_flushed)(zr_kcp *kcp, uint32_t limit);
    /* Segments that may be in flight. */
    uint32_t (*window)(const zr_kcp *kcp);
} zr_kcp_cc;

extern const zr_kcp_cc zr_kcp_cc_stock; /* nc = 0 */
extern const zr_kcp_cc zr_kcp_cc_open;  /* nc = 1: counted, not applied */

#endif
