"""Three control planes joined by a bad network: the whole way from subscribe to confirmed, and back to nothing."""

import pytest

from relay.commands import Event
from relay.errors import Problem
from relay.messages import From, Pull, encode_message
from relay.requests import Ingress, PublishRequest, SubscribeRequest
from relay.units import Address
from tests.py.fake_mesh import AUDIO, MS, VIDEO, FakeWorker, Mesh, S, body, chain, to


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


def test_a_worker_that_moved_keeps_its_streams_and_its_children_pull_again():
    """Nothing is opened, added or bound a second time: only sessions, children and pulls are told anew."""
    mesh = chain(3, workers=2)
    mesh.run(S)
    for n in range(4):
        mesh["a"].publish(f"s{n}", body(), mesh.now)
        mesh["c"].subscribe(f"s{n}", "one", to(5000 + n), mesh.now)
    mesh.run(S)
    slots = {name: mesh[name].slots_in_use() for name in "abc"}
    for name in "abc":
        mesh.relays[name].move_worker(0)
        mesh.run(S)
        told = {op for op, _ in mesh.relays[name].workers[0].log}
        assert told <= {"session_add", "session_rtt", "sub_drop", "child_add", "pull_start", "pull_stop", "keyframe"}
        assert all(mesh["c"].subscribe_answer(f"s{n}", "one").confirmed for n in range(4))
        assert mesh["c"].describe("s0").route == ["a", "b", "c"]
    assert {name: mesh[name].slots_in_use() for name in "abc"} == slots
    assert {len(worker.subs) for worker in mesh.relays["a"].workers} == {2}


def test_a_worker_that_moved_while_a_child_was_being_added_forgets_that_answer():
    mesh = chain(2)
    mesh.run(S)
    mesh["a"].publish("s", body(), mesh.now)
    mesh.run(S)
    mesh["b"].subscribe("s", "one", to(), mesh.now)
    for _ in range(20):
        mesh.relays["a"].move_worker(0)
        mesh.run(50 * MS)
    mesh.run(2 * S)
    assert mesh["b"].subscribe_answer("s", "one").confirmed
    assert mesh["a"].slots_in_use()["children"] == 1


def test_a_successor_that_was_given_a_socket_closed_meanwhile_closes_it():
    """Who died had read `ingress_close`; the supervisor had not heard of it, and gave its successor what it held."""
    mesh = chain(1)
    mesh.run(S)
    relay = mesh.relays["a"]
    for name in ("ends", "stays"):
        mesh["a"].publish(name, body(), mesh.now)
    relay.pump()
    before = set(relay.workers[0].sockets)
    mesh["a"].unpublish("ends", None, mesh.now)
    relay.pump()
    left = set(relay.workers[0].sockets)
    assert len(before) == 2
    assert len(left) == 1
    relay.workers[0].sockets |= before
    relay.move_worker(0)
    assert relay.workers[0].sockets == left
    relay.move_worker(0)  # what was closed in an earlier life is history
    assert "ingress_close" not in {op for op, _ in relay.workers[0].log}


def test_a_pull_that_resumes_in_a_future_epoch_is_served_from_now():  # K38
    mesh = chain(2)
    mesh.run(S)
    mesh["a"].publish("s", body(3), mesh.now)
    mesh.run(S)
    (session,) = mesh.relays["a"].sessions
    pull = Pull(r=1, stream="s", conv=99, lane=0, route=["b"], want="all", from_=From(9, 5))
    mesh["a"].on_message(session, encode_message(pull), mesh.now)
    mesh.relays["a"].pump()
    added = [fields for op, fields in mesh.relays["a"].workers[0].log if op == "child_add"]
    assert [fields["from"] for fields in added] == [1 << 33]


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


def told(mesh, name, *ops):
    """What the first worker of `name` was told, of these operations."""
    return [(op, fields) for op, fields in mesh.relays[name].workers[0].log if op in ops]


def test_an_origin_that_starts_anew_in_the_same_epoch_is_followed_from_its_new_numbers():
    mesh = chain()
    mesh.run(S)
    mesh["a"].publish("s", body(4), mesh.now)
    mesh["c"].subscribe("s", "one", to(), mesh.now)
    mesh.run(S)
    mesh.boot("a")
    mesh["a"].publish("s", body(4), mesh.now)
    for name in "bc":
        mesh.relays[name].workers[0].log.clear()
    mesh.run(4 * S)
    assert mesh["c"].subscribe_answer("s", "one").confirmed
    for name in "bc":
        assert [op for op, _ in told(mesh, name, "stream_open", "stream_close")] == ["stream_close", "stream_open"]


def test_a_parent_that_restarts_between_leaves_the_numbers_below_alone():
    mesh = chain()
    mesh.run(S)
    mesh["a"].publish("s", body(4), mesh.now)
    mesh["c"].subscribe("s", "one", to(), mesh.now)
    mesh.run(S)
    mesh.boot("b")
    mesh.relays["c"].workers[0].log.clear()
    mesh.run(4 * S)
    assert mesh["c"].subscribe_answer("s", "one").confirmed
    assert told(mesh, "c", "stream_open", "stream_close") == []


def test_an_ingress_that_cannot_open_is_asked_for_again_every_second():
    mesh = chain(1)
    relay = mesh.relays["a"]
    relay.no_sockets = True
    mesh["a"].publish("s", body(), mesh.now)
    relay.pump()
    with pytest.raises(Problem) as refused:
        mesh["a"].publish_answer("s")
    assert (refused.value.status, refused.value.retry_after_s) == (503, 1)
    assert "too many open files" in refused.value.detail
    relay.no_sockets = False
    mesh.run(900 * MS)
    assert relay.workers[0].sockets == set()
    mesh.run(200 * MS)
    assert mesh["a"].publish_answer("s").ingress.address == "127.0.0.1:30000"
    assert mesh["a"].deadline() is None


@pytest.mark.parametrize("late_answer", [False, True])
def test_a_socket_the_worker_has_no_descriptor_for_is_asked_for_again(late_answer: bool):
    """Also when the supervisor, who did open it, is heard after the worker."""
    mesh = chain(1)
    control, relay = mesh["a"], mesh.relays["a"]
    control.publish("s", body(), mesh.now)
    relay.pump()
    before = control.publish_answer("s")
    control.on_event(0, Event("ingress_lost", 0, {"ingress": 0}), mesh.now)
    if late_answer:
        control.on_ingress_open(0, 0, Address("127.0.0.1", 30000), None, mesh.now)
    with pytest.raises(Problem, match="file descriptor"):
        control.publish_answer("s")
    mesh.run(1100 * MS)
    assert control.publish_answer("s") == before


def test_a_socket_that_does_not_come_back_with_its_worker_is_asked_for_again():
    mesh = chain(1)
    relay = mesh.relays["a"]
    mesh["a"].publish("s", body(), mesh.now)
    relay.pump()
    before = mesh["a"].publish_answer("s")
    relay.no_sockets = True
    relay.lose_worker(0)
    relay.no_sockets = False
    mesh.run(1100 * MS)
    assert mesh["a"].publish_answer("s") == before


def test_the_socket_of_a_stream_that_ends_is_closed():
    mesh = chain(1)
    mesh["a"].publish("s", body(), mesh.now)
    mesh.relays["a"].pump()
    assert mesh.relays["a"].workers[0].sockets == {0}
    mesh["a"].unpublish("s", 1, mesh.now)
    mesh.relays["a"].pump()
    assert mesh.relays["a"].workers[0].sockets == set()


def test_a_worker_lost_while_its_stream_is_being_asked_for_asks_again():
    mesh = chain(2)
    mesh.run(S)
    mesh["a"].publish("s", body(), mesh.now)
    mesh["b"].subscribe("s", "one", to(), mesh.now)
    mesh.relays["b"].pump()  # the question is on its way
    mesh["b"].on_worker_lost(0, mesh.now)
    mesh.run(S)
    mesh.relays["b"].workers[0] = FakeWorker()
    mesh["b"].on_worker_up(0, mesh.now)
    mesh.run(S)
    assert mesh["b"].subscribe_answer("s", "one").confirmed
    assert len(mesh.relays["b"].workers[0].pulls) == 1


def test_a_subscriber_that_names_its_tracks_follows_them_through_a_new_epoch():
    mesh = chain(1)
    mesh["a"].publish("s", body(), mesh.now)
    audio_only = SubscribeRequest(address="127.0.0.1:5000", tracks=["a0"])
    mesh["a"].subscribe("s", "one", audio_only, mesh.now)
    mesh["a"].publish("s", PublishRequest(epoch=2, tracks=[AUDIO, VIDEO], ingress=Ingress()), mesh.now)
    mesh.relays["a"].pump()
    assert [fields["tracks"] for _, fields in told(mesh, "a", "sub_add")] == [0b10, 0b01]


def test_streams_of_one_group_live_on_one_worker_and_others_are_spread():
    mesh = chain(1, workers=3)
    for n in range(6):
        group = "room" if n % 2 else None
        mesh["a"].publish(f"s{n}", PublishRequest(epoch=1, tracks=[VIDEO], ingress=Ingress(), group=group), mesh.now)
    mesh.relays["a"].pump()
    workers = [mesh["a"].publish_answer(f"s{n}").worker for n in range(6)]
    assert len({workers[n] for n in (1, 3, 5)}) == 1
    assert len({workers[n] for n in (0, 2, 4)}) > 1


def test_a_full_relay_says_what_to_do():
    mesh = chain(1, streams_max=2)
    for n in range(2):
        mesh["a"].publish(f"s{n}", body(), mesh.now)
    for call in (
        lambda: mesh["a"].publish("s2", body(), mesh.now),
        lambda: mesh["a"].subscribe("x", "y", to(), mesh.now),
    ):
        with pytest.raises(Problem) as refused:
            call()
        assert (refused.value.status, refused.value.code) == (429, "limit")
        assert "max_streams" in refused.value.detail
    assert mesh["a"].slots_in_use()["streams"] == 2


def test_a_session_that_takes_nothing_is_begun_again_and_the_streams_come_back():
    mesh = chain(2)
    mesh.run(S)
    mesh["a"].publish("s", body(), mesh.now)
    mesh["b"].subscribe("s", "one", to(), mesh.now)
    mesh.run(S)
    (slot,) = mesh.relays["b"].sessions
    mesh["b"].reset_session(slot, mesh.now)
    mesh.run(2 * S)
    assert links(mesh, "a") == {"b": "up"}
    assert mesh["b"].subscribe_answer("s", "one").confirmed


def test_a_thousand_idle_streams_set_no_timers():
    mesh = chain(1)
    for n in range(1000):
        mesh["a"].publish(f"s{n}", body(), mesh.now)
        mesh["a"].subscribe(f"s{n}", "one", to(), mesh.now)
    mesh.relays["a"].pump()
    assert mesh["a"].deadline() is None


def test_a_port_outside_the_configured_range_is_refused_and_nothing_is_published():
    mesh = Mesh({"a": {"peers": [], "upstreams": [], "conf": {"ingress_ports": (40000, 40001)}}})
    for port in (30000, 39999, 40002):
        with pytest.raises(Problem) as refused:
            mesh["a"].publish("s", body(port=port), mesh.now)
        assert (refused.value.status, refused.value.code, refused.value.field) == (422, "range", "ingress.port")
    assert mesh["a"].streams() == []
    mesh["a"].publish("s", body(port=40001), mesh.now)
    mesh.run(S)
    assert mesh["a"].publish_answer("s").ingress.address.endswith(":40001")


def test_an_overloaded_worker_takes_nobody_new_and_keeps_those_it_has():
    mesh = chain(2)
    mesh.run(S)
    mesh["a"].publish("s", body(), mesh.now)
    mesh["b"].subscribe("s", "one", to(), mesh.now)
    mesh.run(S)
    for level, taken in ((1, True), (2, False), (4, False), (0, True)):
        for worker in range(len(mesh.relays["b"].workers)):
            mesh["b"].on_event(worker, Event("overload", 0, {"level": level}), mesh.now)
        for stream in ("s", "elsewhere"):
            sid = f"at-{level}"
            if taken:
                assert mesh["b"].subscribe(stream, sid, to(6000 + level), mesh.now)
                continue
            with pytest.raises(Problem) as refused:
                mesh["b"].subscribe(stream, sid, to(6000 + level), mesh.now)
            assert (refused.value.status, refused.value.code, refused.value.retry_after_s) == (503, "overloaded", 2)
        assert not mesh["b"].subscribe("s", "one", to(), mesh.now), "known: nothing changes"
        assert mesh["b"].subscribe_answer("s", "one").confirmed


def test_an_overloaded_parent_refuses_new_children_and_says_so():
    mesh = chain(2)
    mesh.run(S)
    mesh["a"].publish("s", body(), mesh.now)
    for worker in range(len(mesh.relays["a"].workers)):
        mesh["a"].on_event(worker, Event("overload", 0, {"level": 2}), mesh.now)
    mesh["b"].subscribe("s", "one", to(), mesh.now)
    mesh.run(S)
    assert not mesh["b"].subscribe_answer("s", "one").confirmed
    for worker in range(len(mesh.relays["a"].workers)):
        mesh["a"].on_event(worker, Event("overload", 0, {"level": 1}), mesh.now)
    mesh.run(30 * S)
    assert mesh["b"].subscribe_answer("s", "one").confirmed


def test_a_child_that_is_stuck_is_told_and_asks_again():
    mesh = chain(2)
    mesh.run(S)
    mesh["a"].publish("s", body(), mesh.now)
    mesh["b"].subscribe("s", "one", to(), mesh.now)
    mesh.run(S)
    worker = mesh.relays["a"].workers[0]
    ((_, fields),) = [entry for entry in worker.log if entry[0] == "child_add"]
    mesh["a"].on_event(0, Event("child_stuck", 0, {"sub": fields["sub"], "stream": fields["stream"]}), mesh.now)
    mesh.run(30 * S)
    assert sum(op == "child_add" for op, _ in worker.log) == 2
    assert mesh["b"].subscribe_answer("s", "one").confirmed
