"""A publication whose port moves: its socket is another, and so is its slot."""

from __future__ import annotations

import pytest

from relay.actions import CloseIngress, Command
from tests.py.fake_mesh import FakeRelay, Mesh, body


def published(**conf: int) -> FakeRelay:
    mesh = Mesh({"a": {"peers": [], "upstreams": [], "conf": conf}})
    relay = mesh.relays["a"]
    assert mesh["a"].publish("s", body(1, port=30901), mesh.now)
    relay.pump()
    return relay


def test_a_moved_port_is_read_also_by_a_successor_that_still_finds_the_close_command() -> None:
    """The worker died before it read its commands: the next one has its sockets before it reads them."""
    relay = published()
    worker, control = relay.workers[0], relay.control
    control.publish("s", body(2, port=30902), relay.mesh.now)
    actions = control.drain()
    left = [action for action in actions if isinstance(action, Command)]
    for action in actions:
        if isinstance(action, Command):
            continue
        if isinstance(action, CloseIngress):
            worker.sockets.discard(action.slot)  # the supervisor's; the dead worker's went with it
        else:
            relay.perform(action)
    for command in left:
        relay.perform(command)
    relay.pump()
    _, slot = control.ingress_of("s")
    assert worker.sockets == {slot}
    assert list(worker.bound) == [slot]
    assert control.publish_answer("s").ingress.address.endswith(":30902")


@pytest.mark.parametrize("streams_max", [1, 4])
def test_a_port_that_moves_again_and_again_leaves_nothing_behind_also_when_no_slot_is_free(streams_max: int) -> None:
    relay = published(streams_max=streams_max)
    worker, control = relay.workers[0], relay.control
    before = control.slots_in_use()
    for epoch in range(2, 20):
        control.publish("s", body(epoch, port=30900 + epoch), relay.mesh.now)
        relay.pump()
        _, slot = control.ingress_of("s")
        assert (worker.sockets, list(worker.bound)) == ({slot}, [slot])
        assert control.publish_answer("s").ingress.address.endswith(f":{30900 + epoch}")
    assert control.slots_in_use() == before
    control.unpublish("s", None, relay.mesh.now)
    relay.pump()
    assert (worker.sockets, worker.bound, control.slots_in_use()["ingress"]) == (set(), {}, 0)


def test_the_old_sockets_late_answer_is_not_taken_for_the_new_ones() -> None:
    relay = published()
    control = relay.control
    _, old = control.ingress_of("s")
    first = control.publish_answer("s").ingress.address
    control.publish("s", body(2, port=30902), relay.mesh.now)
    relay.pump()
    control.on_ingress_open(0, old, None, "too many open files", relay.mesh.now)
    relay.pump()
    assert first != control.publish_answer("s").ingress.address == "127.0.0.1:30902"
