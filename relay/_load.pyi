"""See _load.pyx. Times: int ns. Addresses: struct zr_addr, 20 bytes each (Address.pack()), one behind the other."""

from typing import Never, final

@final
class Generator:
    """A publisher of marked RTP packets, paced by absolute deadlines: csrc/load/zr_gen.h.

    One stream for each of `targets`, all from one socket bound to `source`; stream i has `ssrc` + i and `pps` packets
    a second in frames of `frame` packets of `size` bytes, 36 to 2048. `segment`: a frame is one UDP_SEGMENT message.
    CoreError "inval" out of range, OSError from the socket.
    """

    streams: int

    def __new__(
        cls,
        source: bytes,
        targets: bytes,
        *,
        ssrc: int,
        frame: int,
        size: int,
        pps: int,
        payload_type: int,
        segment: bool,
        ramp_ns: int = 0,
    ) -> Generator: ...
    def run(self, length_ns: int) -> None:
        """Sends for that long, without the GIL: call it in a thread of its own."""

    def stop(self) -> None:
        """From any thread: this run, and all later ones, end at once."""

    def counts(self) -> dict[str, int]:
        """due, sent, refused (packets; due = sent + refused), frames, late (frames more than 1 ms behind their time),
        calls, late_ns_max, busy_ns of run_ns. Totals of all runs; any thread."""

    def sent(self) -> list[int]:
        """Packets the kernel took, by stream; not during a run."""

@final
class Sinks:
    """Subscribers, a socket each on `at` with a free port, every packet verified: csrc/load/zr_sinks.h.

    Sink i expects stream i // `per_stream`. CoreError "inval" out of range, OSError from a socket.
    """

    count: int

    def __new__(
        cls, at: bytes, count: int, *, per_stream: int, ssrc: int, size: int, rcvbuf: int, gro: bool
    ) -> Sinks: ...
    def run(self) -> None:
        """Receives until `stop`, without the GIL: call it in a thread of its own."""

    def stop(self) -> None:
        """From any thread: ends one run, the one in progress or the next."""

    def counts(self) -> dict[str, int]:
        """good, duplicates, old, corrupt, rtcp (packets), bytes, calls (recvmmsg), busy_ns; any thread."""

    def ports(self) -> list[int]: ...
    def good(self) -> list[int]:
        """By sink; not during a run, like all below."""

    def dropped(self) -> list[int]:
        """Datagrams the kernel dropped at each full socket."""

    def delays(self) -> list[int]:
        """Packets of all sinks by bucket of delay, due to read, ns; `hist_floor` gives a bucket's lower end."""

    def clear_delays(self) -> None: ...

def hist_floor(bucket: int) -> int: ...
def forward(fd: int, targets: bytes, *, segment: bool) -> Never:
    """Forwards what comes to `fd` to all `targets`, for ever, without the GIL: csrc/load/zr_bare.h.

    CoreError "inval": `fd` is no UDP socket, or cannot reach a target.
    """
