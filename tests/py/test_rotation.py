"""Our static key is replaced while peers still hold the one before: they connect until its end, and not after it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.identity import Identity
from relay.noise import KeyPair
from relay.pace import SECOND
from relay.secret import Secret
from tests.py.sealed_rig import WALL, Net, met

OVERLAP_NS = 900 * SECOND
NEW = bytes(range(32))


def rotated(net: Net) -> Identity:
    """Relay a's keys after a rotation that begins now; b is told nothing."""
    before = Secret(net.private["a"])
    net.private["a"] = NEW
    return replace(net.identity("a"), former=before, former_until=net.now + OVERLAP_NS)


def tell(net: Net) -> None:
    """The map follows: b knows a's new key."""
    b = net.ends["b"]
    b.sessions.set_peers({"a": [net.addresses["a"]]}, {"a": KeyPair(NEW).public}, net.now)
    b.turn()


def begin_again(net: Net, name: str, identity: Identity) -> None:
    """The relay starts anew, with what it knew of its peer's key before."""
    net.identity = lambda name, mesh=None: identity  # type: ignore[method-assign]
    net.boot(name, saved=WALL + net.now + 3600 * SECOND)


def agreed_former(net: Net) -> int:
    return net.ends["a"].sessions.handshakes.counts["agreed_former"]


@pytest.mark.parametrize("seed", range(12))  # either key is the larger one
@pytest.mark.parametrize("loss", [0, 0.3])
def test_a_peer_that_knows_only_the_key_before_connects_during_the_rotation(seed: int, loss: float) -> None:
    net = met(seed)
    assert net.run(3 * SECOND, until_up=True)
    before = net.identity("b")
    net.ends["a"].sessions.set_identity(rotated(net))
    net.loss = loss
    begin_again(net, "b", before)
    assert net.run((2 if loss == 0 else 10) * SECOND, until_up=True)
    assert agreed_former(net) >= 1
    net.loss = 0
    net.run(3 * SECOND)
    net.agree()


@pytest.mark.parametrize("seed", range(6))
def test_a_relay_that_starts_anew_during_its_rotation_reaches_peers_with_either_key(seed: int) -> None:
    net = met(seed)
    assert net.run(3 * SECOND, until_up=True)
    begin_again(net, "a", rotated(net))
    assert net.run(5 * SECOND, until_up=True)
    net.run(SECOND)
    net.agree()
    assert agreed_former(net) >= 1
    tell(net)
    assert net.run(5 * SECOND, until_up=True)
    net.run(SECOND)
    net.agree()
    assert net.ends["a"].sessions.handshakes.peers["b"].knows.until is None  # type: ignore[union-attr]


@pytest.mark.parametrize("seed", range(6))  # a or b began the session, and makes its next keys
def test_sessions_get_new_keys_all_through_a_rotation(seed: int) -> None:
    net = met(seed)
    assert net.run(3 * SECOND, until_up=True)
    slots = (set(net.ends["a"].slots), set(net.ends["b"].slots))
    net.ends["a"].sessions.set_identity(rotated(net))
    held = net.ends["a"].keys()
    for _ in range(6):
        net.run(130 * SECOND)
        assert net.ends["a"].keys() != held
        held = net.ends["a"].keys()
    assert (set(net.ends["a"].slots), set(net.ends["b"].slots)) == slots
    net.agree()
    tell(net)
    assert net.run(5 * SECOND, until_up=True)
    net.run(SECOND)
    net.agree()


@pytest.mark.parametrize("seed", range(4))
def test_after_the_rotation_the_key_before_is_nobodys(seed: int) -> None:
    net = met(seed)
    assert net.run(3 * SECOND, until_up=True)
    before = net.identity("b")
    net.ends["a"].sessions.set_identity(rotated(net))
    net.run(OVERLAP_NS)
    words = len(net.ends["a"].words)
    begin_again(net, "b", before)
    assert not net.run(20 * SECOND, until_up=True)
    assert set(net.ends["a"].words[words:]) <= {"mac1", "noindex", "stamp"}
    assert "mac1" in net.ends["a"].words[words:]
    assert net.ends["a"].sessions.handshakes.peers["b"].knows is None
    tell(net)
    assert net.run(5 * SECOND, until_up=True)
    net.run(SECOND)
    net.agree()


def test_a_peer_is_greeted_by_the_key_it_last_used() -> None:
    net = met(1)
    assert net.run(3 * SECOND, until_up=True)
    net.ends["a"].sessions.set_identity(rotated(net))
    handshakes = net.ends["a"].sessions.handshakes
    assert handshakes.peers["b"].knows is None
    tell(net)
    assert net.run(5 * SECOND, until_up=True)
    assert agreed_former(net) == 0
    assert handshakes.public == KeyPair(NEW).public
