"""Sessions with keys at both ends: set-up, loss, crossing, restarts, clocks, attackers."""

import pytest

from relay.pace import MS, SECOND
from tests.py.sealed_rig import DAY, Data, Net


def met(seed: int, **how: float) -> Net:
    """Two relays that have started within 100 ms of each other."""
    net = Net(seed, **how)
    net.boot("a")
    net.run(int(net.rng.random() * 100) * MS)
    net.boot("b")
    return net


def test_two_relays_find_each_other_and_agree() -> None:
    net = met(1)
    assert net.run(SECOND, until_up=True)
    net.run(SECOND)
    net.agree()
    assert [end.ups for end in net.ends.values()] == [1, 1]


@pytest.mark.parametrize(("loss", "within"), [(0.3, 2 * SECOND), (0.7, 30 * SECOND)])
def test_a_hundred_of_a_hundred_set_ups_under_loss_are_in_time(loss: float, within: int) -> None:
    took = []
    for seed in range(100):
        net = Net(seed, loss=loss)
        net.boot("a"), net.boot("b")
        began = net.now
        assert net.run(within, until_up=True), seed
        took.append(net.now - began)
    print(f"loss {loss}: median {sorted(took)[50] / 1e9:.2f} s, slowest {max(took) / 1e9:.2f} s")


def test_a_thousand_simultaneous_beginnings_are_one_session_each() -> None:
    for seed in range(1000):
        net = Net(seed, delay_ns=(1 + seed % 150) * MS, jitter_ns=(seed % 7) * 10 * MS)
        net.boot("a"), net.boot("b")  # at the same instant
        assert net.run(2 * SECOND, until_up=True), seed
        net.run(net.delay_ns * 2 + 300 * MS)
        assert [end.ups for end in net.ends.values()] == [1, 1], seed
        ((send_a, recv_a),), ((send_b, recv_b),) = (net.ends[name].keys() for name in "ab")
        assert (send_a, recv_a) == (recv_b, send_b), seed
        assert [len(end.slots) for end in net.ends.values()] == [1, 1], seed
