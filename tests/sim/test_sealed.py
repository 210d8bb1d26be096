"""The chain of three relays with keys: the same traffic, the same restart, and the handshake in place of the hello."""

import os

import pytest

from tests.sim.test_chain import check_run, run_chain

SEEDS = 100 if os.environ.get("ZR_FULL") else 6
BATCH = 3


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_with_keys_every_packet_at_most_once_and_all_accounted_for(first: int) -> None:
    for seed in range(first, min(first + BATCH, SEEDS)):
        run = run_chain(seed, sealed=True)
        try:
            check_run(run)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        for relay in run.world.relays.values():
            assert all(view.state == "up" for view in relay.control.links()), relay.name


def test_with_keys_the_same_seed_gives_the_same_trace() -> None:
    first, second = (run_chain(5, sealed=True).world for _ in range(2))
    assert first.arrived == second.arrived > 500
    assert first.trace() == second.trace()
