"""`zrelay bench report`: a valid page that holds everything, shows every figure, and runs nothing of a hostile file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import html5lib
import pytest
from click.testing import CliRunner
from hypothesis import example, given
from hypothesis import strategies as st

from relay.bench import plots, result
from relay.bench.report import page, report

RUN = {
    "subscribers": 50, "cpu_us_per_packet": 2.5, "ratio_to_bare": 1.1, "delivered_pct": 100.0, "limited_by": "the CPU",
    "bars": {"ratio_to_bare": 1.25}, "p50_ms": 0.05, "p99_ms": 0.3, "p999_ms": 0.9, "max_ms": 2.0,
}  # fmt: skip
ATTACK = "\"><script>alert(1)</script><img src=x onerror=alert(1)>'&\x00\ud800\x85"


def made(tmp_path: Path, *runs: dict[str, Any], name: str = "a.json") -> str:
    result.save(str(tmp_path / name), "fanout", *(runs or (RUN,)))
    return str(tmp_path / name)


def parsed(html: str) -> ElementTree.Element:
    """As HTML5 has it; anything a browser would have to repair is an error."""
    document = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(html)
    assert isinstance(document, ElementTree.Element)
    return document


def written(tmp_path: Path, *files: str) -> str:
    target = tmp_path / "report.html"
    done = CliRunner().invoke(report, [*files, "-o", str(target)])
    assert done.exit_code == 0, done.output
    return target.read_text()


def test_the_page_is_valid_and_shows_every_figure_with_its_bar(tmp_path: Path) -> None:
    html = written(tmp_path, made(tmp_path))
    text = " ".join(parsed(html).itertext())
    for word in ("fanout.cpu_us_per_packet", "2.5", "1.25", "the CPU", "cpu_model", "subscribers 50"):
        assert word in text, word
    assert html.count('class="bar"') >= 1
    assert html.count("<svg") >= 3


def test_the_page_asks_for_nothing_and_runs_nothing(tmp_path: Path) -> None:
    html = written(tmp_path, made(tmp_path, {**RUN, "limited_by": "see http://example.net/x"}))
    assert "<script" not in html
    assert not re.search(r"@import|url\(|<link|<iframe|<object|<embed|<base", html)
    for element in parsed(html).iter():
        assert not {"src", "href", "action", "srcset", "style", "{http://www.w3.org/1999/xlink}href"} & set(
            element.keys()
        )


def test_texts_of_a_hostile_file_stay_texts(tmp_path: Path) -> None:
    path = made(tmp_path)
    whole = json.loads(Path(path).read_text())
    entry = whole["benchmarks"][0]
    for key in ("name", "group"):
        entry[key] = ATTACK
    entry["params"] = {ATTACK: ATTACK}
    entry["extra_info"] = {
        "unit": ATTACK,
        "limited_by": ATTACK,
        "bar": ATTACK,
        "result": {ATTACK: ATTACK, "p50_ms": "x"},
    }
    whole["machine_info"] = {"kernel": ATTACK, "load_average": [ATTACK], "cpu": ATTACK}
    whole["commit_info"] = {"id": ATTACK, "dirty": True}
    whole["datetime"] = whole["version"] = ATTACK
    (tmp_path / "b.json").write_text(json.dumps(whole))
    html = written(tmp_path, str(tmp_path / "b.json"))
    assert "<script" not in html
    assert "<img" not in html
    document = parsed(html)
    assert "alert(1)" in " ".join(document.itertext())


def test_several_files_of_one_benchmark_become_a_history(tmp_path: Path) -> None:
    files = [made(tmp_path, {**RUN, "cpu_us_per_packet": 2.0 + at}, name=f"day-{at}.json") for at in range(3)]
    html = written(tmp_path, *files)
    parsed(html)
    assert "over files" in html
    for at in range(3):
        assert f"day-{at}.json" in html


def test_many_rounds_become_a_percentile_curve(tmp_path: Path) -> None:
    runs = [{**RUN, "cpu_us_per_packet": 2.0 + at / 10} for at in range(20)]
    assert "percentiles of 20 rounds" in written(tmp_path, made(tmp_path, *runs))


def test_a_missed_bar_is_said_in_words(tmp_path: Path) -> None:
    assert "(missed)" not in written(tmp_path, made(tmp_path))
    assert "(missed)" in written(tmp_path, made(tmp_path, {**RUN, "ratio_to_bare": 1.4}))


def test_a_file_that_is_no_result_and_a_place_that_is_none_are_said(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    done = CliRunner().invoke(report, [str(tmp_path / "x.json")])
    assert (done.exit_code, "x.json" in done.output) == (1, True)
    done = CliRunner().invoke(report, [made(tmp_path), "-o", str(tmp_path / "none" / "r.html")])
    assert (done.exit_code, "No such file" in done.output) == (1, True)
    assert CliRunner().invoke(report, []).exit_code == 2


FINITE = st.floats(min_value=-1e12, max_value=1e12, allow_nan=False)


@example([5e-324])
@given(st.lists(FINITE, min_size=1, max_size=40))
def test_any_figures_can_be_drawn(values: list[float]) -> None:
    for svg in (
        plots.bars([(str(at), value, None) for at, value in enumerate(values)], "µs"),
        plots.curve(values, "s"),
        plots.history([(str(at), value, value, value) for at, value in enumerate(values)], "s", values[0]),
    ):
        root = ElementTree.fromstring(svg)
        for element in root.iter():
            for key in ("x", "y", "x1", "x2", "cx", "cy", "width"):
                assert -1e-6 <= float(element.get(key, "0")) <= 2000


@pytest.mark.parametrize(("low", "high"), [(0, 1), (3, 3), (0.001, 0.0017), (-5, 5), (1e9, 1e9 + 1)])
def test_ticks_are_few_and_hold_the_range(low: float, high: float) -> None:
    scale = plots.ticks(low, high)
    assert scale[0] <= low
    assert scale[-1] >= high
    assert 2 <= len(scale) <= 8


def test_an_empty_page_never_comes_to_be(tmp_path: Path) -> None:
    assert parsed(page([result.load(made(tmp_path))])).find("body") is not None
