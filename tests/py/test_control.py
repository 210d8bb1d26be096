"""Three control planes joined by a bad network: the whole way from subscribe to confirmed, and back to nothing."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from relay.errors import Problem
from relay.requests import SubscribeRequest
from tests.py.fake_mesh import MS, Mesh, S, body, chain, to


def links(mesh, name):
    return {link.peer: link.state for link in mesh[name].links()}


def test_two_hellos_that_cross_make_one_session():
    for seed in range(50):
        mesh = chain(2, seed)
        mesh.loss = 0.3
        mesh.run(3 * S)
        assert links(mesh, "a") == {"b": "up"}
        (ours,), (theirs,) = mesh.relays["a"].sessions.values(), mesh.relays["b"].sessions.values()
        assert (ours.index, ours.peer_index) == (theirs.peer_index, theirs.index)


def test_a_subscriber_two_hops_away_is_confirmed():
    mesh = chain()
    mesh.run(S)
    assert mesh["a"].publish("cls/1", body(), mesh.now)
    mesh["c"].subscribe("cls/1", "one", to(), mesh.now)
    assert mesh["c"].subscribe_answer("cls/1", "one").state == "pulling"
    mesh.run(S)
    assert mesh["c"].subscribe_answer("cls/1", "one").confirmed
    view = mesh["c"].describe("cls/1")
    assert (view.state, view.route, view.parent) == ("live", ["a", "b", "c"], "b")
    assert [track.id for track in view.tracks] == ["v0", "a0"]
    assert len(mesh.relays["b"].workers[0].pulls) == 1


def test_subscribed_first_and_published_later_is_confirmed():
    mesh = chain()
    mesh.run(S)
    mesh["c"].subscribe("s", "one", to(), mesh.now)
    mesh.run(S)
    assert not mesh["c"].subscribe_answer("s", "one").confirmed
    mesh["a"].publish("s", body(), mesh.now)
    mesh.run(12 * S)
    assert mesh["c"].subscribe_answer("s", "one").confirmed


def test_many_subscribers_share_one_pull_and_the_last_one_ends_it_after_the_linger():
    mesh = chain(2)
    mesh.run(S)
    mesh["a"].publish("s", body(), mesh.now)
    for n in range(5):
        mesh["b"].subscribe("s", f"sub{n}", to(5000 + n), mesh.now)
    mesh.run(S)
    worker = mesh.relays["a"].workers[0]
    assert sum(op == "child_add" for op, _ in worker.log) == 1
    for n in range(5):
        mesh["b"].unsubscribe("s", f"sub{n}", mesh.now)
    assert mesh["b"].describe("s").state == "lingering"
    mesh.run(500 * MS)
    assert "s" in mesh["b"].streams()
    mesh.run(S)
    assert mesh["b"].streams() == []
    assert worker.subs == {}


def test_a_parent_restart_is_survived_by_pulling_again():
    mesh = chain()
    mesh.run(S)
    mesh["a"].publish("s", body(), mesh.now)
    mesh["c"].subscribe("s", "one", to(), mesh.now)
    mesh.run(S)
    mesh.boot("b")
    mesh.run(4 * S)
    assert mesh["c"].subscribe_answer("s", "one").confirmed
    assert mesh["b"].describe("s").route == ["a", "b"]


def test_a_lost_worker_gets_everything_again_and_its_children_pull_again():
    mesh = chain(3, workers=2)
    mesh.run(S)
    for n in range(4):
        mesh["a"].publish(f"s{n}", body(), mesh.now)
        mesh["c"].subscribe(f"s{n}", "one", to(5000 + n), mesh.now)
    mesh.run(S)
    for name in "abc":
        before = mesh["a"].publish_answer("s0").ingress.address
        mesh.relays[name].lose_worker(0)
        mesh.run(8 * S)
        assert all(mesh["c"].subscribe_answer(f"s{n}", "one").confirmed for n in range(4))
        assert mesh["a"].publish_answer("s0").ingress.address == before
    assert {len(worker.subs) for worker in mesh.relays["c"].workers} == {2}


def test_a_higher_epoch_wins_everywhere_and_a_lower_one_is_fenced():
    mesh = chain()
    mesh.run(S)
    mesh["a"].publish("s", body(7), mesh.now)
    mesh["c"].subscribe("s", "one", to(), mesh.now)
    mesh.run(S)
    assert not mesh["a"].publish("s", body(9), mesh.now)
    mesh.run(S)
    assert mesh["c"].describe("s").epoch == 9
    assert mesh["c"].subscribe_answer("s", "one").confirmed
    with pytest.raises(Problem) as refused:
        mesh["a"].publish("s", body(8), mesh.now)
    assert refused.value.to_dict("r")["current_epoch"] == 9
    mesh["a"].unpublish("s", 9, mesh.now)
    with pytest.raises(Problem):
        mesh["a"].publish("s", body(8), mesh.now)


def test_the_same_publish_twice_is_one():
    mesh = chain(1)
    assert mesh["a"].publish("s", body(), mesh.now)
    mesh.relays["a"].pump()
    first = mesh["a"].publish_answer("s")
    assert not mesh["a"].publish("s", body(), mesh.now)
    assert mesh["a"].publish_answer("s") == first


def test_an_ended_stream_is_told_down_and_comes_back():
    mesh = chain()
    mesh.run(S)
    mesh["a"].publish("s", body(), mesh.now)
    mesh["c"].subscribe("s", "one", to(), mesh.now)
    mesh.run(S)
    mesh["a"].unpublish("s", 1, mesh.now)
    mesh.run(S)
    assert not mesh["c"].subscribe_answer("s", "one").confirmed
    mesh["a"].publish("s", body(2), mesh.now)
    mesh.run(12 * S)
    assert mesh["c"].subscribe_answer("s", "one").confirmed


def test_relays_that_ask_each_other_do_not_wait_for_ever():
    ring = {n: {"peers": [p for p in "abc" if p != n], "upstreams": [u]} for n, u in zip("abc", "bca", strict=True)}
    mesh = Mesh(ring)
    mesh.run(S)
    for name in "abc":
        mesh[name].subscribe("s", "one", to(), mesh.now)
    mesh.run(10 * S)
    assert not any(mesh[name].subscribe_answer("s", "one").confirmed for name in "abc")
    mesh["a"].publish("s", body(), mesh.now)
    mesh.run(30 * S)
    assert all(mesh[name].subscribe_answer("s", "one").confirmed for name in "abc")


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (SubscribeRequest(address="8.8.8.8:5000"), "address"),
        (SubscribeRequest(address="224.0.0.1:5000"), "address"),
        (SubscribeRequest(address="0.0.0.0:5000"), "address"),
        (SubscribeRequest(address="169.254.169.254:80"), "address"),
        (SubscribeRequest(address="[::ffff:127.0.0.1]:80"), "address"),
        (SubscribeRequest(address="localhost:80"), "address"),
        (SubscribeRequest(), "address"),
        (SubscribeRequest(address="127.0.0.1:1", addresses={"v0": "127.0.0.1:1"}), "address"),
        (SubscribeRequest(addresses={"nope": "127.0.0.1:1"}), "track"),
        (SubscribeRequest(address="127.0.0.1:1", tracks=["nope"]), "track"),
    ],
)
def test_a_subscriber_that_may_not_be_is_refused_and_leaves_nothing(request_, code):
    mesh = chain(1)
    mesh["a"].publish("s", body(), mesh.now)
    used = mesh["a"].slots_in_use()
    with pytest.raises(Problem) as refused:
        mesh["a"].subscribe("s", "one", request_, mesh.now)
    assert (refused.value.status, refused.value.code) == (422, code)
    assert mesh["a"].slots_in_use() == used


@settings(max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck))
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
                assert (worker.streams, worker.subs, worker.pulls) == ({}, {}, {})


TestThreeRelays = ThreeRelays.TestCase
