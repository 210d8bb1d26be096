"""Where a relay keeps what has to survive a reboot: made for it alone, refused when others may write, done without."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from relay.config import Config, loads
from relay.settings import state_dir
from relay.sockets import EXIT_PERMISSION, StartError
from relay.stamp import open_stamps
from relay.statedir import StateDir, examine_state_dir


def config(folder: Path, state: str = "state", relay: str = "bj-1") -> Config:
    return loads(f'[node]\nid = "{relay}"\nruntime_dir = "{folder}"\nstate_dir = "{folder / state}"\n', "f", {})


def opened(conf: Config) -> tuple[StateDir, list[dict[str, Any]]]:
    said: list[dict[str, Any]] = []
    found = StateDir.open(conf, lambda level, event, **fields: said.append({"level": level, "event": event, **fields}))
    return found, said


def test_it_is_made_for_its_owner_alone_and_holds_the_files_of_several_relays(tmp_path: Path) -> None:
    files = set()
    for relay in ("bj-1", "bj/1", "bj_2F1"):
        state, said = opened(config(tmp_path, "deep/state", relay))
        assert said == []
        files.add(state.file("stamp"))
    assert {os.path.dirname(path) for path in files} == {str(tmp_path / "deep" / "state")}
    assert len(files) == 3
    assert stat.S_IMODE(os.stat(tmp_path / "deep" / "state").st_mode) == 0o700


def test_stamps_go_on_above_those_of_before_when_the_runtime_directory_is_gone(tmp_path: Path) -> None:
    conf = config(tmp_path)
    before = open_stamps(opened(conf)[0].file("stamp"), 10**18, 0).next(0)
    again = open_stamps(opened(conf)[0].file("stamp"), 10**17, 0).next(0)  # the clock has gone back, too
    assert again > before


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_one_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "state").mkdir()
    os.chmod(tmp_path / "state", mode)
    for look in (opened, examine_state_dir):
        with pytest.raises(StartError, match=r"node\.state_dir .* may be written by others") as error:
            look(config(tmp_path))
        assert error.value.exit_code == EXIT_PERMISSION


def test_one_that_cannot_be_made_is_said_once_and_the_runtime_directory_takes_its_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    conf = config(tmp_path, "file/state")
    state, said = opened(conf)
    assert state.path == str(tmp_path)
    assert [(row["level"], row["event"], row["instead"]) for row in said] == [
        ("warning", "no state directory", str(tmp_path))
    ]
    assert [finding.level for finding in examine_state_dir(conf)] == ["warning"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere: run as another user")
def test_one_that_we_may_not_write_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o500)
    state, said = opened(config(tmp_path))
    assert (state.path, len(said)) == (str(tmp_path), 1)


def test_check_makes_nothing_and_finds_nothing_wrong_with_one_that_can_be_made(tmp_path: Path) -> None:
    assert examine_state_dir(config(tmp_path, "a/b/c")) == []
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("environ", "uid", "path"),
    [
        ({"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}, 7, "/var/lib/a"),
        ({"XDG_STATE_HOME": "/x"}, 0, "/var/lib/zrelay"),
        ({"XDG_STATE_HOME": "/x"}, 7, "/x/zrelay"),
        ({"XDG_STATE_HOME": "x", "HOME": "/home/me"}, 7, "/home/me/.local/state/zrelay"),
    ],
)
def test_the_default_is_what_the_system_gives_its_services_and_users(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], uid: int, path: str
) -> None:
    for name in ("STATE_DIRECTORY", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    assert state_dir() == path
