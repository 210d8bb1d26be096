"""The gate in C and its model see the same datagrams and answer alike, replies included."""

from __future__ import annotations

import ipaddress
import os
from typing import Any

import hypothesis.strategies as st
import pytest
from cryptography.exceptions import InvalidTag
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.prop.gate_model import LENGTHS, MS, SECOND, Gate, Source, message, open_reply
from tests.whitebox import ffi, lib, memory

IPS = ["192.0.2.1", "192.0.2.77", "192.0.3.1", "127.0.0.1", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "::1"]
sources = st.tuples(st.sampled_from([ipaddress.ip_address(ip).packed for ip in IPS]), st.sampled_from([9, 4000]))
keys = st.binary(min_size=32, max_size=32)
kinds = st.sampled_from([0x08, 0x09])
bodies = st.binary(max_size=150)
steps = st.sampled_from([0, 1, MS, 49 * MS, 50 * MS, SECOND - 1, SECOND, 5 * SECOND, 119 * SECOND, 121 * SECOND])


class GateAgainstModel(RuleBasedStateMachine):
    @initialize(public=keys, mesh=keys, former=keys, until=st.sampled_from([0, 1, 50, 900]))
    def open(self, public: bytes, mesh: bytes, former: bytes, until: int) -> None:
        seed = bytes(range(32))
        self.now = 1000 * SECOND
        end = self.now + until * SECOND if until else 0
        self.mem = memory(lib.zr_gate_bytes())
        self.gate: Any = lib.zr_gate_init(self.mem, ffi.new("zr_gate_keys *", [public, mesh, seed, former, end]))
        assert self.gate != ffi.NULL
        self.model = Gate(public, mesh, seed, former, end)
        self.cookies: dict[Source, bytes] = {}
        self.answer: Any = ffi.new("zr_gate_answer *")

    def teardown(self) -> None:
        if hasattr(self, "gate"):
            lib.zr_gate_fini(self.gate)

    def give(self, data: bytes, source: Source) -> None:
        """Both judge; a reply opens with the keys of the mesh, to the cookie of this source."""
        ip, port = source
        addr = ffi.new("zr_addr *", {"ip": ip.ljust(16, b"\0"), "port": port, "family": 4 if len(ip) == 4 else 6})
        rc = lib.zr_gate_input(self.gate, data, len(data), addr, self.now, self.answer)
        why = None if rc == lib.ZR_OK else ffi.string(lib.wb_gate_why(self.answer)).decode()
        assert (why, rc != lib.ZR_OK and bool(self.answer.reply)) == self.model.input(data, source, self.now)
        cookie_key = self.model.former_cookie_key if self.answer.former else self.model.cookie_key
        if rc != lib.ZR_OK and self.answer.reply:
            reply = bytes(self.answer.cookie)
            assert reply[:8] == b"\x0a\0\0\0" + data[4:8]
            cookie = open_reply(reply, data, cookie_key)
            assert cookie == self.model.cookie(source, self.now)
            self.cookies[source] = cookie
            with pytest.raises(InvalidTag):
                open_reply(reply, message(data[0], b"other", self.model.mac1_key), cookie_key)

    @rule(source=sources, kind=kinds, body=bodies, count=st.sampled_from([1, 1, 6, 80]), former=st.booleans())
    def greet(self, source: Source, kind: int, body: bytes, count: int, former: bool) -> None:
        key = self.model.former_mac1_key if former else self.model.mac1_key
        for _ in range(count):
            self.give(message(kind, body, key), source)

    @rule(kind=kinds, count=st.sampled_from([40, 90]))
    def greet_from_everywhere(self, kind: int, count: int) -> None:
        for host in range(count):
            self.give(message(kind, b"", self.model.mac1_key), (bytes([10, 0, host, 1]), 9))

    @precondition(lambda self: self.cookies)
    @rule(kind=kinds, body=bodies, data=st.data())
    def come_back_with_a_cookie(self, kind: int, body: bytes, data: st.DataObject) -> None:
        owner = data.draw(st.sampled_from(sorted(self.cookies)))
        source = data.draw(st.just(owner) | sources)
        self.give(message(kind, body, self.model.mac1_key, self.cookies[owner]), source)

    @rule(source=sources, kind=kinds, at=st.integers(0, 179), bit=st.integers(0, 7))
    def flip(self, source: Source, kind: int, at: int, bit: int) -> None:
        data = bytearray(message(kind, b"", self.model.mac1_key, b"cookie of sixteen"[:16]))
        data[max(at % len(data), 1)] ^= 1 << bit
        self.give(bytes(data), source)

    @rule(source=sources, kind=st.sampled_from([8, 9, 10]), rest=st.binary(max_size=200), exact=st.booleans())
    def throw_anything(self, source: Source, kind: int, rest: bytes, exact: bool) -> None:
        data = bytes([kind]) + rest
        self.give(data.ljust(LENGTHS[kind], b"\0")[: LENGTHS[kind]] if exact else data, source)

    @rule(queued=st.sampled_from([0, 128, 129, 1024]), busy=st.sampled_from([0, 300, 301]))
    def load(self, queued: int, busy: int) -> None:
        self.model.queued, self.model.busy = queued, busy
        lib.zr_gate_queued(self.gate, queued)
        lib.zr_gate_busy(self.gate, busy)

    @rule(by=steps)
    def wait(self, by: int) -> None:
        self.now += by

    @invariant()
    def sound(self) -> None:
        if not hasattr(self, "gate"):
            return
        assert lib.zr_gate_check(self.gate, self.now)
        loaded = self.now < self.model.loaded_until or self.model.queued > 128 or self.model.busy > 300
        assert bool(lib.zr_gate_overlap(self.gate, self.now)) == (self.now < self.model.former_until)
        assert bool(lib.zr_gate_loaded(self.gate, self.now)) == loaded


TestGateAgainstModel = GateAgainstModel.TestCase
TestGateAgainstModel.settings = settings(max_examples=200 if os.environ.get("ZR_FULL") else 20)  # each is thousands
