"""What the host grants a relay: open files, socket buffers. Less than wanted is said, and is no reason not to start."""

from __future__ import annotations

import os
import resource
import socket

from relay import hostinfo
from relay.processes import say


def raise_file_limit(wanted: int) -> None:
    """Every stream published here is a socket in its worker and in the supervisor; children inherit the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    granted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (granted, hard))
    if granted < wanted:
        say(f"WARN {granted} open files are allowed, {wanted} wanted: raise LimitNOFILE= or ulimit -n")


def warn_small_buffers(link_fd: int, wanted: int) -> None:
    """`wanted`: bytes of receive buffer."""
    with socket.socket(fileno=os.dup(link_fd)) as link:
        granted = link.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2  # the kernel doubles what is asked
    if granted < wanted:
        say(
            f"WARN receive buffers are {granted} bytes, not {wanted}: net.core.rmem_max is "
            f"{hostinfo.socket_buffer_max('r')}; sysctl -w net.core.rmem_max={wanted}"
        )
