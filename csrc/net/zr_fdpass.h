/*
 * zr_fdpass.h - what the supervisor tells a worker over a Unix SOCK_SEQPACKET socket, and the descriptors with it.
 *
 *   ingress   | magic u32 | op u16 | slot u16 |                                   + exactly one descriptor (SCM_RIGHTS)
 *   become    | magic u32 | op u16 | role u16 | epoch u16 | ingress u16 | fresh u16 | 0 u16 |   + none
 *
 * A worker begins its life as a spare and waits for `become`; as many ingress messages as that says follow it at once.
 */
#ifndef ZR_FDPASS_H
#define ZR_FDPASS_H

#include "base/zr_base.h"

#define ZR_FDPASS_MAGIC 0x50464552u /* "REFP" */

enum zr_fdpass_op { ZR_FDPASS_INGRESS = 1, ZR_FDPASS_BECOME = 2, ZR_FDPASS_UP = 3 };

typedef struct zr_fdpass {
    uint32_t magic;
    uint16_t op, slot;
} zr_fdpass;

_Static_assert(sizeof(zr_fdpass) == 8, "the supervisor packs it as <IHH");

typedef struct zr_order { /* become */
    uint32_t magic;
    uint16_t op, role; /* which worker's place: an index into what the spare was started with */
    uint16_t epoch;    /* of its lane */
    uint16_t ingress;  /* messages that follow */
    uint16_t fresh;    /* 1: as if there had been nobody before; 0: go on from the journal */
    uint16_t pad;
} zr_order;

_Static_assert(sizeof(zr_order) == 16, "the supervisor packs it as <IHHHHHH");

/* The descriptor (close-on-exec, the caller's), or ZR_E_again: nothing there; ZR_E_closed: the other end is gone;
 * ZR_E_nomem: a good message whose descriptor did not fit under RLIMIT_NOFILE, *message is set; ZR_E_malformed:
 * anything but such a message, and every descriptor that came with it is closed; ZR_E_os. */
int zr_fdpass_recv(int sock, zr_fdpass *message);
/* The spare's first message: ZR_OK, or as above. */
int zr_fdpass_order(int sock, zr_order *order);
/* The spare's answer when it is the worker it was to become: an 8-byte message with op UP. ZR_E_os. */
int zr_fdpass_up(int sock, uint16_t role);

#endif
