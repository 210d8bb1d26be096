"""Three control planes in a chain, whatever happens to them: in the end all have what they want, and nothing leaks."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.py.fake_mesh import MS, S, body, chain, to


@settings(max_examples=40, stateful_step_count=30, suppress_health_check=list(HealthCheck))
class ThreeRelays(RuleBasedStateMachine):
    """Publishers and subscribers come and go while hellos are lost and relays and workers die."""

    names = st.sampled_from("abc")
    streams = st.sampled_from(["s", "t"])

    @initialize(seed=st.integers(0, 1 << 16))
    def begin(self, seed):
        self.mesh = chain(3, seed)
        self.mesh.loss = 0.3
        self.epochs: dict[str, int] = {}
        self.published: dict[str, int] = {}
        self.subs: dict[tuple[str, str, str], None] = {}

    @rule(stream=streams)
    def publish(self, stream):
        self.epochs[stream] = self.published[stream] = self.epochs.get(stream, 0) + 1
        self.mesh["a"].publish(stream, body(self.epochs[stream]), self.mesh.now)

    @precondition(lambda self: self.published)
    @rule(stream=streams)
    def unpublish(self, stream):
        self.mesh["a"].unpublish(stream, self.published.pop(stream, None), self.mesh.now)

    @rule(name=names, stream=streams, sid=st.sampled_from("xy"))
    def subscribe(self, name, stream, sid):
        self.mesh[name].subscribe(stream, sid, to(), self.mesh.now)
        self.subs[name, stream, sid] = None

    @rule(name=names, stream=streams, sid=st.sampled_from("xy"))
    def unsubscribe(self, name, stream, sid):
        self.mesh[name].unsubscribe(stream, sid, self.mesh.now)
        self.subs.pop((name, stream, sid), None)

    @rule(name=st.sampled_from("bc"))
    def restart(self, name):
        self.mesh.boot(name)
        self.subs = {key: None for key in self.subs if key[0] != name}

    @rule()
    def restart_the_origin(self):
        """Whoever publishes there puts the same epochs again."""
        self.mesh.boot("a")
        self.subs = {key: None for key in self.subs if key[0] != "a"}
        for stream, epoch in self.published.items():
            self.mesh["a"].publish(stream, body(epoch), self.mesh.now)

    @rule(name=names)
    def lose_worker(self, name):
        self.mesh.relays[name].lose_worker(0)

    @rule(ms=st.integers(10, 3000))
    def time_passes(self, ms):
        self.mesh.run(ms * MS)

    @invariant()
    def one_pull_a_stream(self):
        if not hasattr(self, "mesh"):
            return
        for relay in self.mesh.relays.values():
            relay.pump()
            for worker in relay.workers:
                assert len(set(worker.pulls.values())) == len(worker.pulls)

    def teardown(self):
        if not hasattr(self, "mesh"):
            return
        mesh = self.mesh
        mesh.loss = 0.0
        mesh.run(25 * S, 50 * MS)
        for name, stream, sid in self.subs:
            answer = mesh[name].subscribe_answer(stream, sid)
            assert answer.confirmed == (stream in self.published), (name, stream, mesh[name].describe(stream))
            if answer.confirmed:
                assert mesh[name].describe(stream).epoch == self.published[stream]
        for name, stream, sid in self.subs:
            mesh[name].unsubscribe(stream, sid, mesh.now)
        for stream in self.published:
            mesh["a"].unpublish(stream, None, mesh.now)
        mesh.run(10 * S, 50 * MS)
        for relay in mesh.relays.values():
            assert relay.control.slots_in_use() == {"streams": 0, "subs": 0, "ingress": 0, "children": 0}
            for worker in relay.workers:
                assert (worker.streams, worker.subs, worker.pulls, worker.sockets) == ({}, {}, {}, set())


TestThreeRelays = ThreeRelays.TestCase
