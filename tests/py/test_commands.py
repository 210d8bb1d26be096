"""Records are what csrc/forward/zr_cmd.h says."""

import pytest

from relay.commands import core_codec, decode_event, encode
from relay.units import Address


def test_every_command_survives_the_codec_with_all_its_fields():
    from relay import _core

    for code, (op, names, _) in enumerate(_core.COMMANDS):
        fields = {name: number + 1 for number, name in enumerate(names[:6]) if name != "_"}
        addr = Address("::1", 9) if names[6] != "_" else None
        record = encode(op, 77, addr=addr, **fields)
        assert len(record) == 64
        assert record[:2] == code.to_bytes(2, "little")
        decoded = core_codec().decode(record)
        assert (decoded.op, decoded.seq, decoded.fields, decoded.addr) == (op, 77, fields, addr)


def test_fields_stand_where_the_struct_has_them():
    record = encode(
        "session_add", 1, session=2, index=3, peer_index=4, lanes=5, rate_mhz=6, mtu=7, addr=Address("1.2.3.4", 8)
    )
    words = [int.from_bytes(record[at : at + 4], "little") for at in (4, 8, 12, 16, 20, 24, 32)]
    assert words == [1, 2, 3, 4, 5, 6, 7]
    assert record[40:] == Address("1.2.3.4", 8).pack() + bytes(4)


@pytest.mark.parametrize(
    "fields", [{"nope": 1}, {"_": 1}, {"stream": -1}, {"stream": 1 << 32}, {"addr": Address("::1", 1)}]
)
def test_a_command_that_cannot_be_is_refused(fields):
    with pytest.raises(ValueError):
        encode("stream_close", **fields)


def test_an_event_says_its_return_code_as_the_core_does():
    assert decode_event(core_codec().encode_event("done", 5, rc=2, value=9)).rc == -2
    assert decode_event(core_codec().encode_event("done", 5, rc=0)).rc == 0


def test_an_unknown_event_is_refused():
    with pytest.raises(ValueError):
        decode_event(b"\xff\x7f" + bytes(62))
