"""`[security] cipher` set by hand: a live relay and a peer of another opinion use ChaCha20-Poly1305, in every lane."""

from __future__ import annotations

import os

import pytest

from tests.py.badinput import AGENT, WORKER
from tests.py.sealed_live import SealedRelay

pytestmark = pytest.mark.net

AES, CHACHA = 1, 2
full = pytest.mark.skipif(not os.environ.get("ZR_FULL"), reason="takes long: ZR_FULL=1")


@pytest.mark.parametrize(
    ("says", "ours", "agreed"),
    [
        pytest.param("chacha20-poly1305", AES, CHACHA, id="the relay says ChaCha"),
        pytest.param("aes-128-gcm", CHACHA, CHACHA, id="the peer says ChaCha", marks=full),
        pytest.param("chacha20-poly1305", CHACHA, CHACHA, id="both say ChaCha", marks=full),
        pytest.param("aes-128-gcm", AES, AES, id="both say AES", marks=full),
    ],
)
def test_one_word_for_chacha_makes_it_the_sessions_cipher(says: str, ours: int, agreed: int) -> None:
    """Whatever this CPU has. The peer's datagrams are made with `cryptography`: they would not open under another."""
    live = SealedRelay(says, ours)
    try:
        live.start()
        keys = live.hand.keys
        assert keys is not None
        assert keys.cipher == agreed
        for to in (WORKER, AGENT):
            with live.hand.hand(to) as lane:
                live.run(live.accepted(lane, lane.sealer, 3))
        live.whole()
    finally:
        live.stop()
