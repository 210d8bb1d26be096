"""The configuration file: defaults, places of errors, what must not start."""

import os
from pathlib import Path

import msgspec
import pytest

from relay.config import Config, ConfigError, check, effective, load, loads
from relay.settings import NO_EFFECT_YET, Peer
from relay.units import Address

EXAMPLES = sorted((Path(__file__).parents[2] / "relay/data/examples").glob("*.toml"))
PLAIN = "[security]\ninsecure_plaintext = true\n"


def refused(text, environ=None):
    with pytest.raises(ConfigError) as error:
        loads(text, "f.toml", environ or {})
    assert error.value.exit_code == 78
    return str(error.value)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_valid(path):
    assert load(path, {}).node.id


def test_there_are_examples():
    assert len(EXAMPLES) == 4


def test_an_empty_file_is_a_relay_on_loopback():
    assert loads("", environ={}) == Config()
    assert Config().listen.data.is_loopback
    assert Config().listen.api.is_loopback
    assert Config().workers.count >= 1
    assert check(Config()) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[sockets]\n  recieve_buffer = '1MiB'\n",
            "f.toml:2:3: unknown key 'recieve_buffer' in [sockets] (did you mean 'receive_buffer'?)",
        ),
        ("[lisen]\n", "f.toml:1:1: unknown key 'lisen' (did you mean 'listen'?)"),
        ("[node]\nid = \n", "f.toml:2:6:"),
        ("[workers]\ncount = '4'\n", "f.toml:2:1: count:"),
        ("[workers]\ncount = 0\n", "f.toml:2:1: count:"),
        ("[workers]\ncount = -1\n", "f.toml:2:1: count:"),
        ("[workers]\ncount = 1_000_000\n", "f.toml:2:1: count:"),
        ("[workers]\ncount = true\n", "f.toml:2:1: count: expected int or str, got bool"),
        ("[workers]\ncount = 62\n", "oversubscribe = true"),
        ("[workers]\ncpus = '0,0'\n", "names a CPU twice"),
        ("[workers]\ncpus = '9999'\n", "offline"),
        ("[workers]\ncpus = '5-2'\n", "f.toml:2:1: cpus: '5-2' ends before it begins"),
        ("[links]\ndeadline = '5'\n", "f.toml:2:1: deadline: '5' has no unit"),
        ("[links]\ndeadline = '5 m'\n", "f.toml:2:1: deadline:"),
        ("[links]\ndeadline = '-1s'\n", "f.toml:2:1: deadline:"),
        ("[links]\ndeadline = '1e9s'\n", "f.toml:2:1: deadline:"),
        ("[listen]\ndata = '::1:29900'\n", "f.toml:2:1: data:"),
        ("[listen]\ndata = '[fe80::1%eth0]:29900'\n", "f.toml:2:1: data:"),
        ("[listen]\ndata = 'localhost:29900'\n", "f.toml:2:1: data:"),
        ("[listen]\napi = '0.0.0.0:7481'\n", "f.toml:2:1: the API has no tokens yet"),
        ("[ingress]\nports = '2-1'\n", "ends before it begins"),
        (PLAIN + "[listen]\ndata = '0.0.0.0:29900'\n", "f.toml:4:1: 0.0.0.0:29900 is not loopback"),
        (PLAIN + "[[peers]]\nid = 'x'\naddresses = ['192.0.2.1:1']\n", "f.toml:5:1: 192.0.2.1:1 is not loopback"),
        ("[listen]\ndata = '0.0.0.0:29900'\n", "f.toml:2:1: 0.0.0.0:29900 is not loopback: links there are sealed"),
        ("[[peers]]\nid = 'x'\naddresses = ['192.0.2.1:1']\n", "f.toml:3:1: 192.0.2.1:1 is not loopback"),
        ("[[peers]]\nid = 'x'\naddresses = ['127.0.0.1:1']\n", "f.toml:2:1: peers need keys: `zrelay keys gen`"),
        (PLAIN + 2 * "[[peers]]\nid = 'x'\naddresses = []\n", "f.toml:7:1: peer 'x' is listed twice"),
        (PLAIN + "[[peers]]\nid = 'x'\naddresses = []\n", "f.toml:5:1: peer 'x' has no address"),
        (PLAIN + "[[peers]]\nid = 'relay'\naddresses = []\n", "is this relay itself"),
        (PLAIN + "[[peers]]\nid = 'x'\n", "f.toml:3:1: [[peers]] needs 'addresses'"),
        (PLAIN + "[[upstreams]]\npeer = 'y'\n", "f.toml:4:1: no peer 'y' is listed"),
    ],
)  # fmt: skip
def test_an_error_names_its_place(text, said):
    assert said in refused(text)


def test_fewer_cpus_than_workers_must_be_asked_for():
    cpu = min(os.sched_getaffinity(0))
    text = f"[workers]\ncount = 2\ncpus = '{cpu}'\n"
    asked = loads(text + "oversubscribe = true\n", environ={})
    assert (asked.workers.count, asked.workers.cpus) == (2, (cpu,))
    if (os.cpu_count() or 1) >= 2:  # on one CPU the count itself is refused
        assert refused(text).startswith("f.toml:3:1: 2 workers, but cpus names 1: ")


def test_keys_that_do_nothing_yet_are_named_in_one_finding():
    text = (
        "[links]\ndscp = 10\nlinger = '1s'\n[metrics]\nper_stream = true\n"
        + PLAIN
        + "[[peers]]\nid = 'x'\naddresses = ['127.0.0.1:1']\nmax_rate = '5Mbit/s'\n"
    )
    infos = [str(finding) for finding in check(loads(text, environ={})) if finding.level == "info"]
    assert infos == ["info: links.dscp, metrics.per_stream have no effect yet"]
    assert [str(finding) for finding in check(loads("[drain]\ntimeout = '9s'\n", environ={}))] == [
        "info: drain.timeout has no effect yet"
    ]


def test_every_key_listed_as_without_effect_exists():
    for section, keys in NO_EFFECT_YET.items():
        shape = Peer if section == "peers" else type(getattr(Config(), section))
        assert set(keys) <= {field.encode_name for field in msgspec.structs.fields(shape)}


def test_the_fan_out_is_held_for_a_millisecond_at_most():
    assert loads("[egress]\nhold = '500us'\n", environ={}).egress.hold_ns == 500_000
    assert check(loads("[egress]\nhold = '1ms'\n", environ={})) == check(loads("", environ={}))
    with pytest.raises(ConfigError, match="is longer than 1ms"):
        loads("[egress]\nhold = '1001us'\n", environ={})


def test_a_class_has_its_own_deadline_or_that_of_all():
    links = loads("[links]\ndeadline = '200ms'\ndeadline_key = '600500us'\n", environ={}).links
    assert links.deadlines_ms == (200, 601, 200)
    assert effective(loads("", environ={}))["links"]["deadline_audio"] == 400_000_000
    assert loads("", environ={}).links.deadlines_ms == (400, 400, 400)


@pytest.mark.parametrize("key", ["deadline", "deadline_audio", "deadline_key", "deadline_delta"])
@pytest.mark.parametrize("value", ["0", "9ms", "61s"])
def test_a_deadline_that_no_engine_can_keep_is_refused(key, value):
    assert refused(f"[links]\n{key} = '{value}'\n") == f"f.toml:2:1: {key}: '{value}' is not within 10ms and 60s"


@pytest.mark.parametrize("data", [b"[node]\nid = '\xff'\n", b"[node]\n\0", b"#" * (10 << 20)])
def test_bytes_that_are_no_text_are_refused(tmp_path, data):
    path = tmp_path / "f.toml"
    path.write_bytes(data)
    with pytest.raises(ConfigError) as error:
        load(path, {})
    assert error.value.exit_code == 78


def test_crlf_is_fine(tmp_path):
    path = tmp_path / "f.toml"
    path.write_bytes(b"[node]\r\nid = 'bj-1'\r\n")
    assert load(path, {}).node.id == "bj-1"


def test_a_missing_file_and_a_directory_exit_78(tmp_path):
    for path in (tmp_path, tmp_path / "none.toml"):
        with pytest.raises(ConfigError) as error:
            load(path)
        assert error.value.exit_code == 78


def test_the_environment_overrides_the_file_and_is_blamed_for_its_own():
    environ = {"ZRELAY_NODE__ID": "sh-1", "ZRELAY_WORKERS__COUNT": "1", "ZRELAY_LISTEN__DATA": "[::1]:29900"}
    config = loads("[node]\nid = 'bj-1'\n", environ=environ)
    assert (config.node.id, config.workers.count, config.listen.data) == ("sh-1", 1, Address("::1", 29900))
    assert refused("", {"ZRELAY_LINKS__DEADLINE": "5"}).startswith("$ZRELAY_LINKS__DEADLINE: deadline:")


def test_effective_values_are_plain_and_by_their_keys():
    values = effective(loads("[workers]\nidle = 'spin:50us'\ncount = 1\n", environ={}))
    assert values["workers"]["idle"] == 50_000
    assert values["listen"]["data"] == "127.0.0.1:29900"
