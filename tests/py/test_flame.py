"""From the sampler's text to the files of `zrelay flame`: folding, the SVG, the difference, speedscope, the table."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from relay.flame import speedscope, svg, table
from relay.flame.command import flame
from relay.flame.inlined import parse
from relay.flame.stacks import DEPTH_MAX, Stacks, folded, from_folded, from_perf, places_in

RECORDED = """\
# captured on: some day
zr-worker-0 30074/30074 24181.625916: cpu-clock:
\tffffffff81a01189 _copy_from_iter+0x12 ([kernel.kallsyms])
\tffffffff81a00aaa udp_sendmsg ([kernel.kallsyms])
\t          10f3cc __sendmmsg (/usr/lib/x86_64-linux-gnu/libc.so.6)
\t           2a1b0 zr_udp_send (/opt/zrelay/relay/_core.cpython-311-x86_64-linux-gnu.so)
\t           2a000 zr_worker_turn (inlined)
\t           2a000 zr_worker_run (/opt/zrelay/relay/_core.cpython-311-x86_64-linux-gnu.so)

zr-worker-0 30074/30074 24181.626916: cpu-clock:
\tffffffff81a01189 _copy_from_iter+0x12 ([kernel.kallsyms])
\tffffffff81a00aaa udp_sendmsg ([kernel.kallsyms])
\t          10f3cc __sendmmsg (/usr/lib/x86_64-linux-gnu/libc.so.6)
\t           2a1b0 zr_udp_send (/opt/zrelay/relay/_core.cpython-311-x86_64-linux-gnu.so)
\t           2a000 zr_worker_turn (inlined)
\t           2a000 zr_worker_run (/opt/zrelay/relay/_core.cpython-311-x86_64-linux-gnu.so)

my agent 2 30060/30071 [001] 24181.700001:    1003009 cycles:u:
\t          1f0000 [unknown] (/usr/lib/libssl.so.3)
\t          1f0010 [unknown] (/usr/lib/libssl.so.3)
\t          500000 std::map<int, char>::find(int const&) (/usr/bin/a (deleted))

swapper 0/0 24181.800000: cpu-clock:
\tffffffffc0001000 [unknown] ([kernel.kallsyms])

virtio 7/7 24181.900000: cpu-clock:
\tffffffffc0001000 virtnet_poll ([virtio_net])
\t        deadbeef [unknown] ([unknown])

idle 8/8 24182.000000: cpu-clock:
"""
SEND = "__sendmmsg;udp_sendmsg_[k];_copy_from_iter_[k]"


@pytest.fixture
def recorded() -> Stacks:
    return from_perf(RECORDED.splitlines())


def test_samples_of_several_threads_fold_with_kernel_inlined_and_nameless_frames_marked(recorded: Stacks) -> None:
    assert list(folded(recorded)) == [
        "idle 1",
        "my agent 2;std::map<int, char>::find(int const&);[libssl.so.3] 1",
        "swapper;[kernel] 1",
        "virtio;[unknown];virtnet_poll_[k] 1",
        f"zr-worker-0;zr_worker_run;zr_worker_turn_[i];zr_udp_send;{SEND} 2",
    ]
    assert recorded.event == "cpu-clock"


def test_inlined_functions_stand_between_the_one_they_lie_in_and_what_they_call() -> None:
    lines = ["t 1/1 1.0: cpu-clock: ", "\t  20 leaf (/bin/a)", "\t  31 outer (/bin/a)", ""]
    assert places_in(lines) == {("/bin/a", 0x20), ("/bin/a", 0x30)}  # of the caller: the call, not the return
    said = ["0x0000000000000030", "inner", "a.c:3", "middle", "a.c:2", "outer", "a.c:1", "0x20", "leaf", "a.c:9"]
    assert list(parse(said)) == [(0x30, ["inner", "middle", "outer"]), (0x20, ["leaf"])]
    stacks = from_perf(lines, {("/bin/a", 0x30): ("inner", "middle")})
    assert list(folded(stacks)) == ["t;outer;middle_[i];inner_[i];leaf 1"]


def test_a_sample_counts_as_resolved_only_when_the_function_it_was_taken_in_has_a_name(recorded: Stacks) -> None:
    assert (recorded.samples, recorded.resolved()) == (6, 3)  # nameless: libssl, the kernel's, one without a stack
    assert recorded.resolved_pct() == 50.0
    assert recorded.in_kernel() == (4, 1)
    assert Stacks().resolved_pct() == 0.0


def test_just_below_95_percent_is_never_shown_as_95() -> None:
    stacks = Stacks(Counter({("a", "f"): 94_999, ("a", "[unknown]"): 5_001}))
    assert stacks.resolved_pct() == 94.99


def test_a_last_sample_without_its_blank_line_and_a_stack_without_end_are_kept_in_bounds() -> None:
    lines = ["a 1/1 1.0: cpu-clock: ", *(f"\t{at:x} f{at} (/bin/a)" for at in range(1, 2 * DEPTH_MAX))]
    ((stack, count),) = from_perf(lines).counts.items()
    assert count == 1
    assert len(stack) == DEPTH_MAX + 1
    assert stack[-1] == "f1"


def test_a_name_cannot_break_the_folded_file(recorded: Stacks) -> None:
    odd = from_perf(["a;b 1/1 1.0: cpu-clock: ", "\t12 operator;(int,  char) (/bin/a)", ""])
    assert list(folded(odd)) == ["a:b;operator:(int, char) 1"]
    for stacks in (recorded, odd):
        assert from_folded(folded(stacks)).counts == stacks.counts


@pytest.mark.parametrize("line", ["a;b", "a;b twelve", "12", "a;b -3", "a;b 1.5"])
def test_a_file_that_is_not_folded_is_refused_with_its_line(line: str) -> None:
    with pytest.raises(ValueError, match="line 2"):
        from_folded(["a;b 1", line])


def _boxes(text: str) -> dict[str, ElementTree.Element]:
    """Of a graph, each box by its name."""
    space = "{http://www.w3.org/2000/svg}"
    root = ElementTree.fromstring(text)
    return {box.attrib["data-n"]: box for group in root.findall(f"{space}g") for box in group.findall(f"{space}g")}


def test_the_svg_is_well_formed_and_says_all_without_its_script(recorded: Stacks) -> None:
    title = "bj-1 worker 0 <&\"'> · 3 s · 6 samples · cpu-clock"
    text = svg.flame_graph(recorded, title)
    boxes = _boxes(text)
    assert ElementTree.fromstring(text).findtext("{http://www.w3.org/2000/svg}title") == title
    box = boxes["zr_worker_run"]
    assert box.findtext("{http://www.w3.org/2000/svg}title") == "zr_worker_run (2 samples, 33.33 %)"
    assert box.findtext("{http://www.w3.org/2000/svg}text") == "zr_worker_run"
    rect, whole = (boxes[name].find("{http://www.w3.org/2000/svg}rect") for name in ("zr_worker_run", "all"))
    assert rect is not None
    assert whole is not None
    assert float(rect.attrib["width"]) == pytest.approx(float(whole.attrib["width"]) / 3, abs=0.02)
    assert int(box.attrib["data-d"]) == 2
    assert boxes.keys() >= {name for stack in recorded.counts for name in stack}


def test_boxes_of_a_row_lie_side_by_side_within_their_parent(recorded: Stacks) -> None:
    rows: dict[int, list[tuple[int, int]]] = {}
    for box in _boxes(svg.flame_graph(recorded, "t")).values():
        rows.setdefault(int(box.attrib["data-d"]), []).append((int(box.attrib["data-x"]), int(box.attrib["data-w"])))
    for row in rows.values():
        row.sort()
        assert all(x + width <= after for (x, width), (after, _) in itertools.pairwise(row))
    assert sum(width for _, width in rows[1]) == recorded.samples


def test_nothing_in_a_name_gets_out_of_its_box_and_nothing_is_fetched() -> None:
    nasty = ["</title><script>alert(1)</script>", "a\"b' onload='x", "]]>", "nul\0bell\x07", "\ud800half"]
    text = svg.flame_graph(Stacks(Counter({("t", name): 1 for name in nasty})), nasty[0])
    boxes = _boxes(text)
    for name in nasty[:3]:
        assert name in boxes
    assert "nul\ufffdbell\ufffd" in boxes
    assert text.count("<script>") == 1
    assert not re.search(r"(href|src|url\(|@import|fetch|XMLHttp)", text)
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")


def test_what_grew_is_red_what_shrank_is_blue_and_what_did_not_change_neither() -> None:
    old = from_folded(["t;f;grew 10", "t;f;shrank 50", "t;same 40"])
    new = from_folded(["t;f;grew 100", "t;f;shrank 20", "t;same 80"])  # twice the samples: shares count
    text = svg.flame_graph(new, "t", old)
    boxes = _boxes(text)

    def colour(name: str) -> tuple[int, int, int]:
        rect = boxes[name].find("{http://www.w3.org/2000/svg}rect")
        assert rect is not None
        red, green, blue = map(int, re.findall(r"\d+", rect.attrib["fill"]))
        return red, green, blue

    assert colour("grew")[0] == 255 > colour("grew")[2]
    assert colour("shrank")[2] == 255 > colour("shrank")[0]
    assert len(set(colour("same"))) == 1
    said = boxes["grew"].findtext("{http://www.w3.org/2000/svg}title")
    assert said == "grew (100 samples, 50.00 %, +40.00 %)"


def test_the_speedscope_file_has_the_shape_that_its_format_prescribes(recorded: Stacks) -> None:
    document = json.loads(json.dumps(speedscope.document(recorded, "bj-1", 1000)))
    assert document["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    assert document.keys() <= {"$schema", "shared", "profiles", "name", "activeProfileIndex", "exporter"}
    frames = document["shared"]["frames"]
    assert all(isinstance(frame["name"], str) and frame.keys() <= {"name", "file", "line", "col"} for frame in frames)
    assert 0 <= document["activeProfileIndex"] < len(document["profiles"])
    for profile in document["profiles"]:
        assert profile.keys() == {"type", "name", "unit", "startValue", "endValue", "samples", "weights"}
        assert profile["type"] == "sampled"
        assert profile["unit"] in ("none", "nanoseconds", "microseconds", "milliseconds", "seconds", "bytes")
        assert len(profile["samples"]) == len(profile["weights"])
        assert all(0 <= frame < len(frames) for sample in profile["samples"] for frame in sample)
        assert profile["endValue"] - profile["startValue"] == pytest.approx(sum(profile["weights"]))
    assert [profile["name"] for profile in document["profiles"]] == sorted({stack[0] for stack in recorded.counts})
    seconds = sum(profile["endValue"] for profile in document["profiles"])
    assert seconds == pytest.approx(recorded.samples / 1000)


def test_the_table_has_own_and_total_samples_and_counts_recursion_once() -> None:
    stacks = from_folded(["t;f;f;f 3", "t;f;g 1"])
    assert table.top(stacks) == [table.Row("f", 3, 4), table.Row("g", 1, 1)]
    assert table.text(stacks).splitlines()[1].split() == ["75.0", "%", "100.0", "%", "3", "f"]


def test_two_folded_files_become_a_difference_without_sampling(tmp_path: Path) -> None:
    old, new = tmp_path / "old.folded", tmp_path / "new.folded"
    old.write_text("t;f 9\nt;g 1\n")
    new.write_text("t;f 5\nt;g 5\n")
    out = str(tmp_path / "out")
    done = CliRunner().invoke(flame, ["--from", str(new), "--diff", str(old), "--out", out, "--json"])
    assert done.exit_code == 0
    figures = json.loads(done.stdout)
    assert figures["files"] == [out + end for end in (".folded", ".svg", ".speedscope.json", ".diff.svg")]
    assert (figures["samples"], figures["resolved_pct"], figures["version"]) == (10, 100.0, 1)
    assert "+40.00 %" in Path(out + ".diff.svg").read_text()


def test_text_shows_the_table_on_stdout_and_the_rest_on_stderr(tmp_path: Path) -> None:
    kept = tmp_path / "kept.folded"
    kept.write_text("t;f;g 30\nt;f 10\n")
    done = CliRunner().invoke(flame, ["--from", str(kept), "--text", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[1:] == [["75.0", "%", "75.0", "%", "30", "g"], ["25.0", "%", "100.0", "%", "10", "f"]]
    assert "40 samples" in done.stderr
    assert {path.name for path in tmp_path.glob("out*")} == {"out.folded", "out.svg", "out.speedscope.json"}


def test_a_run_with_inlined_functions_is_compared_with_one_without_by_what_both_know(tmp_path: Path) -> None:
    old, new = tmp_path / "old.folded", tmp_path / "new.folded"
    old.write_text("t;f;g 10\n")
    new.write_text("t;f;h_[i];g 20\n")
    out = str(tmp_path / "out")
    done = CliRunner().invoke(flame, ["--from", str(new), "--diff", str(old), "--out", out])
    assert done.exit_code == 0
    boxes = _boxes(Path(out + ".diff.svg").read_text())
    assert boxes["g"].findtext("{http://www.w3.org/2000/svg}title") == "g (20 samples, 100.00 %, +0.00 %)"
    assert "h_[i]" not in boxes
    assert "h_[i]" in _boxes(Path(out + ".svg").read_text())


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--pid", "1", "--worker", "0"], 2, "give one of"),
        (["--seconds", "0"], 2, "0.1"),
        (["--unwind", "lbr"], 2, "dwarf"),
        (["--pid", "4194305"], 1, "there is no process 4194305"),
        (["--cmd", "no-such-program-here"], 1, "is no program"),
        (["--cmd", "'open"], 1, "--cmd"),
        (["--from", "/nonexistent.folded"], 1, "No such file"),
        (["--from", __file__], 1, "it is no .folded file"),
        (["--from", "/dev/null"], 1, "holds no samples"),
        (["--api", "http://127.0.0.1:1"], 4, "no relay answers"),
        (["-c", "/nonexistent.toml"], 78, "no such file"),
    ],
)
def test_what_cannot_be_done_is_said_with_its_exit_code(words: list[str], code: int, said: str) -> None:
    done = CliRunner().invoke(flame, words)
    assert done.exit_code == code, done.output
    assert said in done.output
    assert done.exception is None or isinstance(done.exception, SystemExit)
