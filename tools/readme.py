"""Puts what the demo really prints into README.md, between ``<!-- demo -->`` and ``<!-- /demo -->``.

python tools/readme.py            runs the demo (20 s, needs ffmpeg) and rewrites the block
python tools/readme.py --check    only says whether there is one block with something in it
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DEMO = [sys.executable, "-m", "relay.cli", "dev", "--demo"]
TIMEOUT_S = 120
BLOCK = re.compile(r"(<!-- demo -->\n```text\n)(.*?)(```\n<!-- /demo -->)", re.DOTALL)


def block_error(text: str) -> str | None:
    """What is wrong with the README's demo block, or None."""
    blocks = BLOCK.findall(text)
    if len(blocks) != 1:
        return f"{len(blocks)} blocks between <!-- demo --> and <!-- /demo -->, not one"
    if not blocks[0][1].strip():
        return "the demo block is empty: run tools/readme.py"
    return None


def with_demo(text: str, said: str) -> str:
    """The README's text with ``said`` in its demo block."""
    said = said.lstrip("\n").rstrip()
    return BLOCK.sub(lambda found: f"{found[1]}{said}\n{found[3]}", text, count=1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="only check that the block is there and not empty")
    check = parser.parse_args().check
    text = README.read_text()
    if not check:
        demo = subprocess.run(DEMO, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S)
        if demo.returncode != 0:
            print(f"the demo failed, README.md stays as it is:\n{demo.stdout}{demo.stderr}", file=sys.stderr)
            return 1
        text = with_demo(text, demo.stdout)
    wrong = block_error(text)
    if wrong is not None:
        print(f"README.md: {wrong}", file=sys.stderr)
        return 1
    if not check:
        README.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
