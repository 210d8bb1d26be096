"""The pool and a list of reference counts see the same operations; batches hold packets like any other owner."""

from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.whitebox import ffi, lib, memory

BATCH = 3
ARENA = 64


class Packet:
    """What the model knows of a packet out of the pool."""

    def __init__(self, pkt: Any, data: bytes) -> None:
        self.pkt, self.data, self.refs = pkt, data, 1


class PoolAgainstCounts(RuleBasedStateMachine):
    @initialize(count=st.integers(1, 5))
    def open(self, count: int) -> None:
        self.pool: Any = ffi.new("zr_pool *")
        self.packets_memory = memory(lib.zr_pool_bytes(count))
        self.batch: Any = ffi.new("zr_batch *")
        self.batch_memory = memory(lib.zr_batch_bytes(BATCH, ARENA))
        self.count, self.most, self.refused = count, 0, 0
        self.out: list[Packet] = []
        self.entries: list[tuple[Packet | None, bytes]] = []
        assert lib.zr_pool_init(self.pool, self.packets_memory, count) == lib.ZR_OK
        assert lib.zr_batch_init(self.batch, self.batch_memory, BATCH, ARENA) == lib.ZR_OK

    @rule(data=st.binary(max_size=40))
    def copy(self, data: bytes) -> None:
        pkt = lib.zr_pool_copy(self.pool, data, len(data))
        assert (pkt == ffi.NULL) == (len(self.out) == self.count)
        if pkt == ffi.NULL:
            self.refused += 1
            return
        assert all(pkt != other.pkt for other in self.out)
        assert (pkt.refs, pkt.off, pkt.len) == (1, lib.ZR_PKT_HEAD, len(data))
        self.out.append(Packet(pkt, data))
        self.most = max(self.most, len(self.out))

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def hold(self, data: st.DataObject) -> None:
        packet = data.draw(st.sampled_from(self.out))
        lib.zr_pkt_hold(packet.pkt)
        packet.refs += 1

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        packet = data.draw(st.sampled_from(self.out))
        held = sum(owner is packet for owner, _ in self.entries)
        if packet.refs > held:  # the batch's own references are not ours to drop
            self.let_go(packet)

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def batch_hold(self, data: st.DataObject) -> None:
        packet = data.draw(st.sampled_from(self.out))
        skip = data.draw(st.integers(0, len(packet.data)))
        view = packet.data[skip:]
        where = ffi.new("zr_slice *", {"pkt": packet.pkt, "off": packet.pkt.off + skip, "len": len(view)})
        rc = lib.zr_batch_hold(self.batch, ffi.new("zr_addr *"), lib.ZR_SOCK_EGRESS, where)
        assert rc == (lib.ZR_E_full if len(self.entries) == BATCH else lib.ZR_OK)
        if rc == lib.ZR_OK:
            packet.refs += 1
            self.entries.append((packet, view))

    @rule(data=st.binary(max_size=ARENA + 1), spare=st.integers(0, 4), brim=st.sampled_from([None, -1, 0, 1]))
    def batch_write(self, data: bytes, spare: int, brim: int | None) -> None:
        left = ARENA - sum(len(written) for owner, written in self.entries if owner is None)
        if brim is not None:  # up to the brim of the arena, one less, one more
            data, spare = data.ljust(ARENA + 1, b".")[: max(left + brim, 0)], 0
        room = len(self.entries) < BATCH and len(data) + spare <= left
        assert lib.zr_batch_fits(self.batch, len(data) + spare) == room
        at = lib.zr_batch_reserve(self.batch, len(data) + spare)
        assert (at != ffi.NULL) == room
        if room:
            ffi.memmove(at, data, len(data))
            lib.zr_batch_commit(self.batch, ffi.new("zr_addr *"), lib.ZR_SOCK_LINK, len(data))
            self.entries.append((None, data))

    @rule()
    def batch_reset(self) -> None:
        lib.zr_batch_reset(self.batch)
        for packet, _ in self.entries:
            if packet is not None:
                self.let_go(packet, dropped=True)
        self.entries.clear()

    def let_go(self, packet: Packet, dropped: bool = False) -> None:
        if not dropped:
            lib.zr_pkt_drop(packet.pkt)
        packet.refs -= 1
        if packet.refs == 0:
            self.out.remove(packet)

    @invariant()
    def agree(self) -> None:
        assert lib.zr_pool_check(self.pool)
        assert (self.pool.in_use, self.pool.in_use_max) == (len(self.out), self.most)
        assert self.pool.exhausted == self.refused
        for packet in self.out:
            assert packet.pkt.refs == packet.refs
            start = packet.pkt.off
            assert bytes(ffi.buffer(packet.pkt.buf, lib.ZR_PKT_BYTES)[start : start + packet.pkt.len]) == packet.data
        assert self.batch.count == len(self.entries)
        for number, (packet, data) in enumerate(self.entries):
            entry = self.batch.tx[number]
            assert bytes(ffi.buffer(entry.data, entry.len)) == data
            assert entry.held == (ffi.NULL if packet is None else packet.pkt)


TestPool = PoolAgainstCounts.TestCase
