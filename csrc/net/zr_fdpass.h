/*
 * zr_fdpass.h - one descriptor over a Unix SOCK_SEQPACKET socket: the supervisor opens, the worker receives.
 *
 *   | magic u32 | op u16 | slot u16 |  + exactly one descriptor (SCM_RIGHTS)
 */
#ifndef ZR_FDPASS_H
#define ZR_FDPASS_H

#include "base/zr_base.h"

#define ZR_FDPASS_MAGIC 0x50464552u /* "REFP" */

enum zr_fdpass_op { ZR_FDPASS_INGRESS = 1 };

typedef struct zr_fdpass {
    uint32_t magic;
    uint16_t op, slot;
} zr_fdpass;

_Static_assert(sizeof(zr_fdpass) == 8, "the supervisor packs it as <IHH");

/* The descriptor (close-on-exec, the caller's), or ZR_E_again: nothing there; ZR_E_closed: the other end is gone;
 * ZR_E_nomem: a good message whose descriptor did not fit under RLIMIT_NOFILE, *message is set; ZR_E_malformed:
 * anything but such a message, and every descriptor that came with it is closed; ZR_E_os. */
int zr_fdpass_recv(int sock, zr_fdpass *message);

#endif
