"""What the control conversation has measured of a link is near what the link is."""

from __future__ import annotations

from relay.report import control_report
from tests.sim.world import MS, SECOND, LinkConf, World


def test_round_trip_and_loss_of_a_link_are_known_when_control_messages_crossed_it() -> None:
    world = World(7)
    world.chain(["a", "b"], LinkConf(delay_ns=30 * MS, jitter_ns=0, loss=0.2))
    a, b = world.relays["a"], world.relays["b"]
    (link,) = control_report(b.control, b.lane, world.now)["links"]
    assert [link[f"delay_{name}_ms"] for name in ("in", "out", "error")] == [None] * 3
    world.run(world.now + SECOND)
    (link,) = control_report(b.control, b.lane, world.now)["links"]
    assert (link["peer"], link["state"], link["address"]) == ("a", "up", "127.0.1.1:29900")
    assert (link["loss_pct"], link["queue_ms"]) == (None, None)  # of control messages: there were none
    world.publish("a", "cam/1")
    for i in range(200):  # each a pull and a drop
        world.subscribe("b", "cam/1", f"s{i}")
        world.run(world.now + 100 * MS)
        b.control.unsubscribe("cam/1", f"s{i}", world.now)
        b.pump()
        world.run(world.now + 2100 * MS)  # longer than the pull lingers
    (slot,) = b.sessions
    estimates = b.lane.estimates(slot)
    assert estimates is not None
    assert 60 <= estimates["srtt_ms"] <= 62
    assert 80_000 <= estimates["loss_ppm"] <= 350_000
    assert world.now - estimates["heard"] < 3 * SECOND  # a round of the above, and one loss
    (link,) = control_report(b.control, b.lane, world.now)["links"]
    assert 59.9 <= link["rtt_ms"] <= 62
    assert abs(link["loss_in_pct"] - 20) < 6
    assert abs(link["loss_out_pct"] - 20) < 6
    assert abs(link["offset_ms"]) < 0.1
    assert abs(link["delay_in_ms"] - 30) <= 1
    assert abs(link["delay_out_ms"] - 30) <= 1
    assert abs(link["delay_error_ms"] - 30) <= 1  # both ways alike: far better than what can be promised
    assert link["loss_pct"] == estimates["loss_ppm"] / 1e6 * 100
    assert estimates["sent"] > 64
    assert a.lane.estimates(999) is None
    world.check()


def test_loss_is_not_told_from_a_few_messages() -> None:
    world = World(8)
    world.chain(["a", "b"], LinkConf(delay_ns=30 * MS, jitter_ns=0))
    world.run(world.now + SECOND)
    world.publish("a", "cam/1")
    world.subscribe("b", "cam/1")
    world.run(world.now + SECOND)
    (link,) = control_report(world.relays["b"].control, world.relays["b"].lane, world.now)["links"]
    assert (link["loss_pct"], link["queue_ms"]) == (None, 0)  # one message says nothing about loss
