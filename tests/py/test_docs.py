"""The documents say what is: made parts are up to date, links lead somewhere, named commands exist."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from relay.cli import main

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("", "docs", "csrc", "benchmarks")
    for path in (ROOT / folder).glob("*.md")
)


def tool(name: str) -> ModuleType:
    """tools/NAME.py as a module."""
    spec = importlib.util.spec_from_file_location(f"tools_{name}", ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_counters_page_is_the_cores_own_list() -> None:
    docs = tool("docs")
    assert docs.TARGET.read_text() == docs.document(), "run tools/docs.py"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_to_files_that_are_there(name: str) -> None:
    text = (ROOT / name).read_text()
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    missing = [
        target for target in targets
        if "://" not in target and not target.startswith("mailto:") and not ((ROOT / name).parent / target).exists()
    ]  # fmt: skip
    assert missing == []


def test_the_readme_shows_what_the_demo_printed() -> None:
    assert tool("readme").block_error((ROOT / "README.md").read_text()) is None


def test_the_demo_block_is_replaced_and_nothing_else() -> None:
    readme = tool("readme")
    text = "a\n<!-- demo -->\n```text\nold\n```\n<!-- /demo -->\nb \\1\n"
    assert readme.with_demo(text, "\nnew \\1 \\g<2>\n\n") == text.replace("old", "new \\1 \\g<2>")
    assert "empty" in (readme.block_error(readme.with_demo(text, "")) or "")
    assert "0 blocks" in (readme.block_error("a") or "")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_verbs_and_options_that_are_named_exist(name: str) -> None:
    text = (ROOT / name).read_text().replace("\\\n", " ")
    for verb, rest in re.findall(r"zrelay (run|dev|status|check|ports|version|impair)\b([^\n`|#]*)", text):
        command = main.get_command(None, verb)  # type: ignore[arg-type]
        assert command is not None
        known = {option for parameter in command.params for option in parameter.opts}
        said = set(re.findall(r"(?<!\S)--[a-z][a-z-]*", rest))
        assert said <= known, f"zrelay {verb}{rest}"
