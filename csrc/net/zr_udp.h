/*
 * zr_udp.h - UDP sockets: opening them, and our addresses in the kernel's shape. Linux only.
 */
#ifndef ZR_UDP_H
#define ZR_UDP_H

#include <sys/socket.h>

#include "base/zr_addr.h"
#include "base/zr_base.h"

/* Asked of a socket when it is opened. */
enum zr_udp_flag {
    ZR_UDP_GRO = 1,          /* let the kernel merge what comes in; ignored where it cannot */
    ZR_UDP_DONT_FRAGMENT = 2 /* a datagram longer than the path takes is refused, not cut */
};

typedef struct zr_udp_sock {
    int fd;         /* -1: closed */
    uint8_t family; /* 4, or 6: takes both */
    uint32_t lost;  /* the kernel's count of datagrams dropped here, when it was last looked at */
} zr_udp_sock;

typedef struct zr_udp_memory {
    uint32_t rcvbuf, sndbuf; /* granted, in bytes as the kernel counts them */
    uint32_t lost;           /* datagrams dropped since the socket was opened; wraps */
} zr_udp_memory;

/* The two calls that move datagrams, so that a test can fail them. */
typedef struct zr_udp_calls {
    int (*sendmmsg)(int fd, struct mmsghdr *msgs, unsigned count, int flags);
    int (*recvmmsg)(int fd, struct mmsghdr *msgs, unsigned count, int flags, struct timespec *timeout);
} zr_udp_calls;

extern const zr_udp_calls zr_udp_libc;

/* A bound socket, non-blocking and close-on-exec, without SO_REUSEPORT: a busy port is an error (EADDRINUSE). An IPv6
 * wildcard takes IPv4 too. Buffers as asked where we may (SO_RCVBUFFORCE), else as far as the limits allow; 0 keeps the
 * default. The descriptor, ZR_E_inval, or ZR_E_os with errno. */
int zr_udp_open(const zr_addr *bind_to, uint32_t rcvbuf, uint32_t sndbuf, uint32_t flags);
/* Of an open descriptor: ZR_E_inval unless it is a UDP socket. */
int zr_udp_sock_of(zr_udp_sock *sock, int fd);
/* Receive times of the kernel (SO_TIMESTAMPNS) come with what is received. False where it cannot. */
bool zr_udp_stamp(int fd);
/* Also tells when a queue of this host dropped what was sent (ENOBUFS), which it otherwise keeps to itself
 * (IP_RECVERR). The price: errors of earlier datagrams come with later calls, and wait to be dropped. */
void zr_udp_tell_errors(const zr_udp_sock *sock);
#define ZR_UDP_ERRORS_MAX 64
/* Drops errors that wait, ZR_UDP_ERRORS_MAX at most; how many. */
int zr_udp_drop_errors(int fd, const zr_udp_calls *calls);
/* What the kernel tells of its buffers (SO_MEMINFO). ZR_E_os. */
int zr_udp_meminfo(int fd, zr_udp_memory *memory);
/* Where it is bound. ZR_E_os. */
int zr_udp_bound(int fd, zr_addr *addr);

/* For a socket of `family`, into ZR_UDP_NAME_BYTES; an IPv4 address on an IPv6 socket is written as its mapped one.
 * Returns the length, 0 when the socket cannot reach such an address. */
#define ZR_UDP_NAME_BYTES 28u
socklen_t zr_udp_to_sockaddr(void *to, const zr_addr *addr, uint8_t family);
/* A mapped address comes out as the IPv4 address it stands for. family 0 when it is neither. */
zr_addr zr_udp_from_sockaddr(const struct sockaddr_storage *from);

#endif
