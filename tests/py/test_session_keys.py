"""Keys of sessions from the control plane to the lanes: what is told, to whom, and that nothing shows it."""

from __future__ import annotations

import msgspec
import pytest

from relay import _core
from relay import actions as act
from relay.commands import core_codec
from relay.errors import CoreError
from relay.secret import Secret
from relay.units import Address
from relay.workers import Workers
from tests.py.fake_mesh import chain

NOW = 1_000_000_000
MS = 1_000_000
MINUTE = 60_000 * MS
AES, CHACHA = 1, 2
A_TO_B, B_TO_A = bytes(range(32)), bytes(range(100, 132))
ADDRS = [Address("127.0.0.1", 1000), Address("127.0.0.1", 2000)]


def keys(end: int, cipher: int = AES, *, generation: int = 0, made_at: int = 0) -> act.SessionKeys:
    """What end 0 or 1 gets out of a handshake that end 0 began."""
    there, back = (bytes([generation]) + secret[1:] for secret in (A_TO_B, B_TO_A))
    send, recv = (there, back) if end == 0 else (back, there)
    return act.SessionKeys(cipher, Secret(send), Secret(recv), initiator=end == 0, made_at=made_at)


class Agents:
    """Two lanes 63 with a session in slot 3, and what passes between them."""

    def __init__(self, cipher: int | None) -> None:
        self.lanes = [_core.ControlLane(NOW, sessions_max=4) for _ in range(2)]
        self.now = NOW
        self.passed: list[bytes] = []
        for end, lane in enumerate(self.lanes):
            row = None if cipher is None else keys(end, cipher).row(NOW)
            lane.session_add(3, 11 + end, 12 - end, 1, 1000, 1420, ADDRS[1 - end].pack(), NOW, row)

    def run(self, ms: int) -> list[bytes]:
        got = []
        for _ in range(ms):
            for end, lane in enumerate(self.lanes):
                for _, data in lane.datagrams(self.now):
                    self.passed.append(data)
                    self.lanes[1 - end].input(data, ADDRS[end].pack(), self.now)
            got += [payload for _, payload in self.lanes[1].messages()]
            self.now += MS
        return got

    def close(self) -> None:
        for lane in self.lanes:
            assert lane.check()
            assert lane.ledgers()["link"] == 0
            assert sum(lane.drops().values()) == 0


@pytest.mark.parametrize("cipher", [AES, CHACHA])
def test_control_messages_between_agents_are_sealed_and_go_on_over_a_rekey(cipher: int) -> None:
    agents = Agents(cipher)
    marker = b"nobody else reads this"
    agents.lanes[0].send(3, marker, NOW)
    assert agents.run(50) == [marker]
    for generation in (1, 2, 3):
        for end in (1, 0):
            indices = 11 + end + 10 * generation, 12 - end + 10 * generation
            agents.lanes[end].session_rekey(3, *indices, keys(end, cipher, generation=generation).row(NOW), agents.now)
        agents.lanes[0].send(3, marker, agents.now)
        assert agents.run(50) == [marker]
    assert agents.passed
    assert not any(marker in data for data in agents.passed)
    assert [lane.rekeys() for lane in agents.lanes] == [[], []]
    agents.close()


def test_a_session_without_keys_is_plaintext_as_before() -> None:
    agents = Agents(None)
    agents.lanes[0].send(3, b"anybody reads this", NOW)
    assert agents.run(50) == [b"anybody reads this"]
    assert any(b"anybody reads this" in data for data in agents.passed)
    agents.close()
    with pytest.raises(CoreError, match="inval"):
        agents.lanes[0].session_rekey(3, 7, 8, keys(0).row(NOW), NOW)


def test_keys_are_over_fifteen_minutes_after_their_handshake_also_in_a_lane_that_was_told_late() -> None:
    lane = _core.ControlLane(NOW, sessions_max=4)
    at = NOW + 14 * MINUTE
    lane.session_add(3, 1, 2, 1, 1000, 1420, ADDRS[1].pack(), at, keys(0, made_at=NOW).row(at))
    lane.send(3, b"x", at)
    assert len(lane.datagrams(at)) == 1
    later = NOW + 15 * MINUTE + 10 * MS
    lane.send(3, b"x", later)
    assert lane.datagrams(later) == []
    assert lane.rekeys() == [(3, 2)]
    assert lane.stats()["link_unsealed"] >= 1


def test_a_secret_of_another_length_is_refused() -> None:
    lane = _core.ControlLane(NOW, sessions_max=4)
    with pytest.raises(ValueError, match="32 bytes"):
        lane.session_add(3, 1, 2, 1, 1000, 1420, ADDRS[1].pack(), NOW, (AES, True, b"short", bytes(32), 0))
    with pytest.raises(CoreError, match="inval"):
        lane.session_add(3, 1, 2, 1, 1000, 1420, ADDRS[1].pack(), NOW, (9, True, bytes(32), bytes(32), 0))


def test_the_cipher_of_this_machine_is_one_of_both() -> None:
    assert _core.cipher_default() in (AES, CHACHA)


def test_a_worker_is_told_the_secrets_in_parts_and_then_the_session() -> None:
    told: list[act.Action] = []
    workers = Workers(2, 16, "127.0.0.1", told.append)
    workers.up = [True, False]
    add = act.SessionAdd(5, 11, 12, 3, 4000, 1420, ADDRS[1], keys(0, CHACHA, made_at=NOW))
    for worker in (0, 1):
        workers.add_session(worker, add, NOW + 3 * MS)
        workers.add_session(worker, act.SessionRekey(5, 13, 14, keys(1, generation=1)), NOW)
    records = [core_codec().decode(action.record) for action in told if isinstance(action, act.Command)]
    assert [event.op for event in records] == (
        ["session_secret"] * 4 + ["session_add"] + ["session_secret"] * 4 + ["session_rekey"]
    )
    first, second = records[:4], records[5:9]
    secrets = b"".join(
        event.fields[half].to_bytes(8, "little") for event in first for half in ("low", "high")
    )  # fmt: skip
    assert secrets == bytes([0]) + A_TO_B[1:] + bytes([0]) + B_TO_A[1:]
    assert [event.fields["part"] for event in first] == [0, 1, 2, 3]
    assert {event.fields["cipher"] for event in first} == {CHACHA | 256}
    assert {event.fields["age_ms"] for event in first} == {3}
    assert {event.fields["cipher"] for event in second} == {AES}
    assert records[4].fields["lanes"] == 3 | 256
    assert records[9].fields == {"session": 5, "index": 13, "peer_index": 14}


def test_keys_never_show_in_what_is_printed_of_an_action() -> None:
    add = act.SessionAdd(5, 11, 12, 3, 4000, 1420, ADDRS[1], keys(0))
    for shown in (repr(add), str(add), f"{add.keys}", repr(act.SessionRekey(5, 1, 2, keys(1)))):
        assert "***" in shown
        assert repr(A_TO_B)[2:20] not in shown
        assert A_TO_B.hex()[:16] not in shown
    with pytest.raises(TypeError):
        msgspec.json.encode(add)
    assert Secret(b"a") == Secret(b"a") != Secret(b"b")
    assert Secret(b"a") != b"a"


def test_a_worker_that_is_replaced_gets_every_generation_again(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = chain(2, workers=2)
    mesh.run(1000 * MS)
    (add,) = (told for told in mesh["a"]._sessions.adds() if isinstance(told, act.SessionAdd))
    rekey = act.SessionRekey(add.slot, 77, 78, keys(0, generation=1))
    monkeypatch.setattr(mesh["a"]._sessions, "adds", lambda: [msgspec.structs.replace(add, keys=keys(0)), rekey])
    mesh.relays["a"].move_worker(0)
    worker = mesh.relays["a"].workers[0]
    ops = [op for op, _ in worker.log if op.startswith("session_") and op != "session_rtt"]
    assert ops == ["session_secret"] * 4 + ["session_add"] + ["session_secret"] * 4 + ["session_rekey"]
    assert worker.rekeyed == [(add.slot, 77)]


def test_a_session_that_a_lane_has_shut_begins_again() -> None:
    mesh = chain(2)
    mesh.run(1000 * MS)
    slot = mesh["a"]._sessions.slot_of("b")
    assert slot is not None
    for why in (1, 2):
        event = core_codec().encode_event("rekey", session=slot, why=why)
        mesh["a"].on_event(0, core_codec().decode_event(event), mesh.now)
        assert mesh["a"]._sessions.peers["b"].session is not None
    event = core_codec().encode_event("rekey", session=slot, why=3)
    mesh["a"].on_event(0, core_codec().decode_event(event), mesh.now)
    assert mesh["a"]._sessions.peers["b"].session is None
    mesh.run(1000 * MS)
    assert mesh["a"]._sessions.slot_of("b") is not None
