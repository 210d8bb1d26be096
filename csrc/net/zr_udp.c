#include "net/zr_udp.h"

#include <errno.h>
#include <limits.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <unistd.h>

#include "base/zr_err.h"

const zr_udp_calls zr_udp_libc = { .sendmmsg = sendmmsg, .recvmmsg = recvmmsg };

static bool set(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof value) == 0;
}

static void set_buffer(int fd, int forced, int asked, uint32_t bytes)
{
    int value = (int)ZR_MIN(bytes, (uint32_t)INT_MAX / 2); /* the kernel doubles it */

    if (bytes > 0 && !set(fd, SOL_SOCKET, forced, value))
        (void)set(fd, SOL_SOCKET, asked, value); /* cut to net.core.[rw]mem_max: degraded, which the owner reports */
}

static bool configure(int fd, const zr_addr *bind_to, uint32_t flags)
{
    bool wildcard = true;

    for (size_t i = 0; i < sizeof bind_to->ip; i++)
        wildcard = wildcard && bind_to->ip[i] == 0;
    if (bind_to->family == 6 && !set(fd, IPPROTO_IPV6, IPV6_V6ONLY, !wildcard))
        return false;
    if (flags & ZR_UDP_GRO)
        (void)set(fd, IPPROTO_UDP, UDP_GRO, 1);
    /* PROBE: not fragmented either, and the kernel's own idea of the path, which anybody can forge by ICMP, is not
     * asked. */
    if (flags & ZR_UDP_DONT_FRAGMENT) {
        bool both = bind_to->family == 4 || (set(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE) && wildcard);
        if (both && !set(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE))
            return false;
    }
    return true;
}

int zr_udp_open(const zr_addr *bind_to, uint32_t rcvbuf, uint32_t sndbuf, uint32_t flags)
{
    struct sockaddr_storage at;
    socklen_t len = zr_udp_to_sockaddr(&at, bind_to, bind_to->family);

    if (len == 0)
        return ZR_E_inval;
    int fd = socket(at.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return ZR_E_os;
    set_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, rcvbuf);
    set_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, sndbuf);
    if (!configure(fd, bind_to, flags) || bind(fd, (struct sockaddr *)&at, len) != 0) {
        int why = errno;
        close(fd);
        errno = why;
        return ZR_E_os;
    }
    return fd;
}

int zr_udp_sock_of(zr_udp_sock *sock, int fd)
{
    int domain = 0, type = 0, protocol = 0;
    socklen_t len = sizeof(int);

    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) != 0 ||
        getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) != 0 ||
        getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) != 0)
        return ZR_E_inval;
    if ((domain != AF_INET && domain != AF_INET6) || type != SOCK_DGRAM || protocol != IPPROTO_UDP)
        return ZR_E_inval;
    zr_udp_memory memory = { 0 };
    (void)zr_udp_meminfo(fd, &memory); /* what was lost before is not ours */
    *sock = (zr_udp_sock){ .fd = fd, .family = domain == AF_INET ? 4 : 6, .lost = memory.lost };
    return ZR_OK;
}

bool zr_udp_stamp(int fd)
{
    return set(fd, SOL_SOCKET, SO_TIMESTAMPNS, 1);
}

void zr_udp_tell_errors(const zr_udp_sock *sock)
{
    (void)set(sock->fd, IPPROTO_IP, IP_RECVERR, 1);
    if (sock->family == 6)
        (void)set(sock->fd, IPPROTO_IPV6, IPV6_RECVERR, 1);
}

int zr_udp_drop_errors(int fd, const zr_udp_calls *calls)
{
    struct mmsghdr msgs[ZR_UDP_ERRORS_MAX];

    memset(msgs, 0, sizeof msgs); /* nothing of them is of interest */
    int got = calls->recvmmsg(fd, msgs, ZR_UDP_ERRORS_MAX, MSG_ERRQUEUE | MSG_DONTWAIT, NULL);
    return ZR_MAX(got, 0);
}

int zr_udp_meminfo(int fd, zr_udp_memory *memory)
{
    uint32_t words[SK_MEMINFO_VARS] = { 0 };
    socklen_t len = sizeof words;

    if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, words, &len) != 0)
        return ZR_E_os;
    *memory = (zr_udp_memory){
        .rcvbuf = words[SK_MEMINFO_RCVBUF],
        .sndbuf = words[SK_MEMINFO_SNDBUF],
        .lost = words[SK_MEMINFO_DROPS],
    };
    return ZR_OK;
}

int zr_udp_bound(int fd, zr_addr *addr)
{
    struct sockaddr_storage at = { 0 };
    socklen_t len = sizeof at;

    if (getsockname(fd, (struct sockaddr *)&at, &len) != 0)
        return ZR_E_os;
    *addr = zr_udp_from_sockaddr(&at);
    return ZR_OK;
}

_Static_assert(sizeof(struct sockaddr_in6) <= ZR_UDP_NAME_BYTES, "a name is an IPv6 one at most");

socklen_t zr_udp_to_sockaddr(void *to, const zr_addr *addr, uint8_t family)
{
    if (addr->family == 4 && family == 4) {
        struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(addr->port) };
        memcpy(&in.sin_addr, addr->ip, 4);
        memcpy(to, &in, sizeof in);
        return sizeof in;
    }
    if (family == 6 && (addr->family == 4 || addr->family == 6)) {
        struct sockaddr_in6 in = { .sin6_family = AF_INET6, .sin6_port = htons(addr->port) };
        uint8_t *ip = in.sin6_addr.s6_addr;
        if (addr->family == 6) {
            memcpy(ip, addr->ip, 16);
        } else {
            ip[10] = ip[11] = 0xFF;
            memcpy(ip + 12, addr->ip, 4);
        }
        memcpy(to, &in, sizeof in);
        return sizeof in;
    }
    return 0;
}

zr_addr zr_udp_from_sockaddr(const struct sockaddr_storage *from)
{
    zr_addr addr = { 0 };

    if (from->ss_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, from, sizeof in);
        addr.family = 4;
        addr.port = ntohs(in.sin_port);
        memcpy(addr.ip, &in.sin_addr, 4);
    } else if (from->ss_family == AF_INET6) {
        struct sockaddr_in6 in;
        memcpy(&in, from, sizeof in);
        bool mapped = IN6_IS_ADDR_V4MAPPED(&in.sin6_addr);
        addr.family = mapped ? 4 : 6;
        addr.port = ntohs(in.sin6_port);
        memcpy(addr.ip, in.sin6_addr.s6_addr + (mapped ? 12 : 0), mapped ? 4 : 16);
    }
    return addr;
}
