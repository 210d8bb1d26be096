"""One relay in the middle, spoken to message by message."""

import random

import pytest

from relay import actions as act
from relay import messages as m
from relay.commands import core_codec
from relay.control import Control, ControlConf, Peer, Upstream
from relay.units import Address
from tests.py.fake_mesh import AUDIO, VIDEO, S, body, to

AT = {name: Address("127.0.0.1", 1000 + 100 * i) for i, name in enumerate(("up1", "up2", "down"))}


class Middle:
    """Relay "mid" with two upstreams and a child; says what it sends to whom and what its worker is told."""

    def __init__(self, **conf):
        peers = [Peer(name, [at], ("live/",) if name == "down" else ("",)) for name, at in AT.items()]
        made = ControlConf("mid", 1, **({"peers": peers, "upstreams": [Upstream("up1"), Upstream("up2")]} | conf))
        self.control = Control(made, random.Random(1), progress=lambda worker, slot: (0, 0))
        self.control.on_worker_up(0, 0)
        self.slots = {}
        for index, (name, at) in enumerate(AT.items()):
            hello = m.Hello(relay=name, boot_id=5, index=index, lanes=1)
            assert self.control.on_datagram(m.encode_hello(hello), at, 0) is None
            self.slots[name] = next(a.slot for a in self.control.drain() if isinstance(a, act.SessionAdd))

    def hear(self, name, message, now=0):
        assert self.control.on_message(self.slots[name], m.encode_message(message), now) is None

    def out(self):
        """([(peer, message)], [(op, fields)]); child_add is answered at once."""
        said, told = [], []
        names = {slot: name for name, slot in self.slots.items()}
        while actions := self.control.drain():
            for action in actions:
                if isinstance(action, act.SendControl):
                    said.append((names[action.slot], m.decode_message(action.payload)))
                elif isinstance(action, act.Command):
                    command = core_codec().decode(action.record)
                    told.append((command.op, command.fields))
                    if command.seq:
                        done = core_codec().encode_event("done", command.seq, value=42)
                        self.control.on_event(0, core_codec().decode_event(done), 0)
        return said, told


@pytest.fixture
def mid():
    return Middle()


def ok(pull, **more):
    said = {"epoch": 3, "tracks": m.wire_tracks([VIDEO, AUDIO]), "next": 7, "route": ["o"]}
    return m.PullOk(**({"r": pull.r, "conv": pull.conv, "lane": 0} | said | more))


def asked(conv=8, **more):
    return m.Pull(**({"r": 1, "stream": "live/s", "conv": conv, "lane": 0, "route": ["down"]} | more))


def test_all_upstreams_are_asked_together_and_the_first_answer_wins(mid):
    mid.control.subscribe("live/s", "x", to(), 0)
    pulls = dict(mid.out()[0])
    assert {name: pull.route for name, pull in pulls.items()} == {"up1": ["mid"], "up2": ["mid"]}
    mid.hear("up2", ok(pulls["up2"]))
    said, told = mid.out()
    assert said == [("up1", m.Drop(conv=pulls["up1"].conv))]
    assert [op for op, _ in told] == ["stream_open", "stream_track", "stream_track", "sub_add", "pull_start"]
    mid.hear("up1", ok(pulls["up1"]))
    assert mid.out() == ([("up1", m.Drop(conv=pulls["up1"].conv))], [])
    assert mid.control.describe("live/s").parent == "up2"


def test_convs_say_by_their_lowest_bit_who_sorts_higher(mid):
    for n in range(20):
        mid.control.subscribe(f"live/{n}", "x", to(), 0)
    pulls = [pull for _, pull in mid.out()[0]]
    assert {pull.conv & 1 for pull in pulls} == {0}  # "mid" < "up…"
    assert len({pull.conv for pull in pulls}) == 40


def test_a_child_is_answered_only_when_our_own_parent_has_answered(mid):
    mid.hear("down", asked())
    said, _ = mid.out()
    assert {name: pull.route for name, pull in said} == {"up1": ["mid", "down"], "up2": ["mid", "down"]}
    mid.hear("up1", ok(dict(said)["up1"]))
    said, told = mid.out()
    (answer,) = [message for name, message in said if name == "down"]
    assert (answer.next, answer.epoch, answer.route) == (42, 3, ["o", "mid"])
    assert "child_add" in [op for op, _ in told]
    mid.hear("down", asked(r=2))
    assert [(name, message.r) for name, message in mid.out()[0]] == [("down", 2)]


def test_a_child_is_refused_when_nobody_has_the_stream(mid):
    mid.hear("down", asked())
    for name, pull in mid.out()[0]:
        mid.hear(name, m.PullNo(r=pull.r, code="unknown"))
    assert [(name, message.code) for name, message in mid.out()[0]] == [("down", "unknown")]
    assert mid.control.streams() == []


@pytest.mark.parametrize(
    ("pull", "code"),
    [(asked(route=["down", "mid"]), "loop"), (asked(stream="other/s"), "rights"), (asked(stream="live//s"), "unknown")],
)
def test_a_pull_that_may_not_be_is_refused_by_its_code(mid, pull, code):
    mid.hear("down", pull)
    assert [(name, message.code) for name, message in mid.out()[0]] == [("down", code)]


def test_the_1025th_stream_of_a_session_is_refused_and_the_session_stays(mid):
    mid.control.publish("live/s", body(), 0)
    for conv in range(1, 1026):
        mid.hear("down", asked(conv))
    answers = [message for name, message in mid.out()[0] if name == "down"]
    assert [message.code for message in answers if isinstance(message, m.PullNo)] == ["quota"]
    assert sum(isinstance(message, m.PullOk) for message in answers) == 1024


def test_a_stale_parent_never_wins(mid):
    mid.control.subscribe("live/s", "x", to(), 0)
    pulls = dict(mid.out()[0])
    mid.hear("up1", ok(pulls["up1"], epoch=5))
    mid.out()
    mid.hear("up1", m.Gone(conv=pulls["up1"].conv, code="lost"))
    pulls = dict(mid.out()[0])
    mid.hear("up2", ok(pulls["up2"], epoch=4))
    assert ("up2", m.Drop(conv=pulls["up2"].conv)) in mid.out()[0]
    mid.hear("up1", ok(pulls["up1"], epoch=5))
    assert mid.control.describe("live/s").parent == "up1"


def test_key_frame_requests_travel_up_once_in_500_ms(mid):
    mid.control.subscribe("live/s", "x", to(), 0)
    pulls = dict(mid.out()[0])
    mid.hear("up1", ok(pulls["up1"]))
    mid.out()
    event = core_codec().decode_event(core_codec().encode_event("keyframe", stream=0, track=0))
    for now in (0, S // 4, S // 2):
        mid.control.on_event(0, event, now)
    assert mid.out()[0] == [("up1", m.Keyframe(conv=pulls["up1"].conv, track=0))] * 2


def test_an_unknown_message_is_answered_and_a_broken_one_is_counted(mid):
    assert mid.control.on_message(mid.slots["up1"], b"\x81\xa1t\xa3new", 0) is None
    assert mid.out()[0] == [("up1", m.Unsupported(of="new"))]
    assert mid.control.on_message(mid.slots["up1"], b"\x90", 0) == "msg"


def test_segments_of_a_conversation_that_nobody_opened_are_answered_by_drop_but_not_while_it_opens(mid):
    mid.control.subscribe("live/s", "x", to(), 0)
    pulls = dict(mid.out()[0])
    for conv in (pulls["up1"].conv, 4242):
        event = core_codec().encode_event("conv_unknown", session=mid.slots["up1"], conv=conv)
        mid.control.on_event(0, core_codec().decode_event(event), 0)
    assert mid.out()[0] == [("up1", m.Drop(conv=4242))]


def test_the_relays_a_refusal_names_are_asked_instead_once():
    mid = Middle(upstreams=[Upstream("up1")])
    mid.control.subscribe("live/s", "x", to(), 0)
    ((_, pull),) = mid.out()[0]
    mid.hear("up1", m.PullNo(r=pull.r, code="overload", try_=["up2", "nobody", "mid", "up1"]))
    ((name, other),) = mid.out()[0]
    assert (name, other.stream) == ("up2", "live/s")
    mid.hear("up2", m.PullNo(r=other.r, code="overload", try_=["up1", "up2"]))
    assert mid.out()[0] == []
    assert mid.control.describe("live/s").state == "failed"


def test_a_refusal_that_says_when_is_not_asked_before(mid):
    mid.control.subscribe("live/s", "x", to(), 0)
    for name, pull in mid.out()[0]:
        mid.hear(name, m.PullNo(r=pull.r, code="overload", retry_ms=1200))
    mid.control.on_timer(int(1.1 * S))
    assert [message for _, message in mid.out()[0] if isinstance(message, m.Pull)] == []
    mid.control.on_timer(int(1.9 * S))
    assert {name for name, message in mid.out()[0] if isinstance(message, m.Pull)} == {"up1", "up2"}


def test_a_parent_is_asked_only_for_what_it_may_publish():
    peers = [Peer("up1", [AT["up1"]], publish=("live/",)), Peer("up2", [AT["up2"]], publish=("other/",))]
    mid = Middle(peers=[*peers, Peer("down", [AT["down"]])])
    mid.control.subscribe("live/s", "x", to(), 0)
    assert [name for name, _ in mid.out()[0]] == ["up1"]


def test_a_way_longer_than_media_lives_is_refused(mid):
    mid.hear("down", asked(route=["down", *(f"r{n}" for n in range(8))]))
    assert [(name, message.code) for name, message in mid.out()[0]] == [("down", "loop")]


def test_a_child_that_does_not_fit_is_sent_to_our_parent(mid):
    mid.control.subscribe("live/s", "x", to(), 0)
    pulls = dict(mid.out()[0])
    mid.hear("up1", ok(pulls["up1"]))
    for conv in range(1, 1026):
        mid.hear("down", asked(conv))
    refused = [message for name, message in mid.out()[0] if name == "down" and isinstance(message, m.PullNo)]
    assert [(message.code, message.try_) for message in refused] == [("quota", ["up1"])]
    mid.hear("down", m.Drop(conv=1))
    mid.hear("down", asked(2000))
    assert [type(message) for name, message in mid.out()[0] if name == "down"] == [m.PullOk]


def test_new_tracks_travel_down_and_to_the_worker(mid):
    mid.hear("down", asked())
    pulls = dict(mid.out()[0])
    mid.hear("up1", ok(pulls["up1"]))
    mid.out()
    mid.hear("up1", m.Tracks(conv=pulls["up1"].conv, tracks=m.wire_tracks([AUDIO])))
    said, told = mid.out()
    assert said == [("down", m.Tracks(conv=8, tracks=m.wire_tracks([AUDIO])))]
    assert [op for op, _ in told] == ["stream_track"]
    mid.hear("up1", m.Tracks(conv=pulls["up1"].conv, tracks=m.wire_tracks([AUDIO])))
    assert mid.out() == ([], [])


def test_numbers_of_another_origin_boot_are_not_resumed(mid):
    mid.control.publish("live/s", body(3), 0)
    mid.control.on_ingress_open(0, 0, Address("127.0.0.1", 30000), None, 0)
    mid.out()
    for conv, boot in ((8, 1), (10, 2)):
        mid.hear("down", asked(conv, from_=m.From(3, 99, boot)))
    starts = [fields["from"] for op, fields in mid.out()[1] if op == "child_add"]
    assert starts == [100, 0]  # 1 is our own boot id


def test_a_key_frame_is_asked_of_a_new_parent_at_once(mid):
    mid.control.subscribe("live/s", "x", to(), 0)
    pulls = dict(mid.out()[0])
    mid.hear("up1", ok(pulls["up1"]))
    event = core_codec().decode_event(core_codec().encode_event("keyframe", stream=0, track=0))
    mid.control.on_event(0, event, 0)
    mid.out()
    mid.hear("up1", m.Gone(conv=pulls["up1"].conv, code="lost"))
    pulls = dict(mid.out()[0])
    mid.hear("up2", ok(pulls["up2"]))
    mid.out()
    mid.control.on_event(0, event, S // 10)
    assert mid.out()[0] == [("up2", m.Keyframe(conv=pulls["up2"].conv, track=0))]
