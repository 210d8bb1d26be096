"""Two relays with keys, in any order of loss, delay, replay, restart and rekey: healed, they have one session each."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from relay.pace import MS, SECOND
from tests.py.sealed_rig import DAY, End, Net

NAMES = st.sampled_from("ab")


class Handshaking(RuleBasedStateMachine):
    """What is on the tape may come again at any time; what a relay saved may be lost with its restart."""

    @initialize(seed=st.integers(0, 1 << 32))
    def begin(self, seed: int) -> None:
        self.net = Net(seed)
        for name in "ab":
            self.net.boot(name)

    @rule(ms=st.integers(5, 3000))
    def time_passes(self, ms: int) -> None:
        self.net.run(ms * MS)

    @rule(loss=st.sampled_from([0.0, 0.1, 0.5, 0.9]), dup=st.sampled_from([0.0, 0.3]))
    def path(self, loss: float, dup: float) -> None:
        self.net.loss, self.net.dup = loss, dup

    @rule(delay=st.integers(1, 350), jitter=st.integers(0, 300))
    def distance(self, delay: int, jitter: int) -> None:
        self.net.delay_ns, self.net.jitter_ns = delay * MS, jitter * MS

    @rule(data=st.data())
    def again(self, data: st.DataObject) -> None:
        tape = [entry for entry in self.net.tape if isinstance(entry[2], bytes)]
        for number in data.draw(st.lists(st.integers(0, len(tape) - 1), max_size=20)):
            source, to, datagram = tape[number]
            self.net.inject(source, to, datagram, data.draw(st.integers(0, 500)) * MS)

    @rule(name=NAMES, wall=st.sampled_from([-DAY, 0, DAY]))
    def restart(self, name: str, wall: int) -> None:
        self.net.boot(name, wall=wall)

    @rule(name=NAMES, what=st.sampled_from(["rekey", "reset"]))
    def session(self, name: str, what: str) -> None:
        end = self.net.ends[name]
        for slot in list(end.slots):
            getattr(end.sessions, what)(slot, self.net.now)
            end.turn()

    @rule(name=NAMES)
    def clone(self, name: str) -> None:
        self.net.ends[name].sessions.discard_all(self.net.now)
        self.net.ends[name].turn()

    @invariant()
    def what_is_held_is_bounded(self) -> None:
        for end in getattr(self, "net", Net(0)).ends.values():
            assert len(end.slots) <= 2
            self.count(end)

    def count(self, end: End) -> None:
        (peer,) = end.sessions.peers.values()
        machine = end.sessions.handshakes
        (shaking,) = machine.peers.values()
        assert len(shaking.pending) <= 8
        generations = [len(session.generations) for session in peer.both()]  # type: ignore[attr-defined]
        leaving = [len(session.leaving) for session in peer.both()]  # type: ignore[attr-defined]
        assert max(generations + leaving, default=0) <= 3
        assert len(machine.indices) == len(shaking.pending) + sum(generations + leaving)

    def teardown(self) -> None:
        if not hasattr(self, "net"):
            return
        net = self.net
        net.loss = net.dup = 0.0
        net.delay_ns, net.jitter_ns = 20 * MS, 0
        net.run(15 * SECOND)
        assert all(end.up for end in net.ends.values())
        net.agree()


Handshaking.TestCase.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
TestHandshaking = Handshaking.TestCase
