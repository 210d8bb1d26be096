"""tools/check_floors.py: green on the tree, red on every kind of violation planted into a copy of nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHECKER = ROOT / "tools" / "check_floors.py"

# A small tower in which everything is allowed.
SOUND = {
    "csrc/base/zr_a.h": "",
    "csrc/mem/zr_b.h": '#include "base/zr_a.h"\n',
    "csrc/ring/zr_r.h": "",
    "csrc/time/zr_clock.c": "#include <time.h>\nvoid f(void) { clock_gettime(0, 0); }\n",
    "csrc/wire/zr_w.h": '#include "mem/zr_b.h"\n#include "wire/zr_w2.h"\n',
    "csrc/wire/zr_w2.h": "/* time(NULL), malloc(1) and #include <Python.h> are only words here */\n",
    "csrc/kcp/zr_k.h": "",
    "csrc/sim/zr_s.h": "",
    "csrc/net/zr_n.h": "#include <sys/socket.h>\n",
    "csrc/forward/zr_f.h": '#include "kcp/zr_k.h"\nint hop_time(int); int run_time(int *clock);\n',
    "csrc/worker/zr_x.c": '#include "net/zr_n.h"\n#include "forward/zr_f.h"\nvoid *f(void) { return calloc(1, 1); }\n',
    "relay/__init__.py": '__version__ = "1"\n',
    "relay/units.py": "import time\n\ndef f() -> None:\n    time.sleep(0)\n",
    "relay/config.py": "from relay import __version__\nfrom relay.units import f\n",
    "relay/_core.pyx": 'cdef extern from "base/zr_a.h":\n    pass\n',
    "relay/control.py": "from . import config\nfrom .streams import s\n",
    "relay/streams.py": "from relay.config import f\n\ndef s(frame_time): return frame_time.time\n",
    "relay/node.py": "import time\nfrom relay import control\nnow = time.monotonic\n",
    "relay/cli.py": "import importlib\nimportlib.import_module('relay.node')\n",
}

VIOLATIONS = {
    "an include of a higher floor": ("csrc/base/zr_v.h", '#include "mem/zr_b.h"\n', "base (F0) includes mem (F1)"),
    "an include of a neighbour": ("csrc/mem/zr_v.h", '#include "ring/zr_r.h"\n', "mem (F1) includes ring (F1)"),
    "forward including net": ("csrc/forward/zr_v.c", '#include "net/zr_n.h"\n', "forward must never include net"),
    "kcp including net": ("csrc/kcp/zr_v.c", '#include "net/zr_n.h"\n', "kcp must never include net"),
    "sim including net": ("csrc/sim/zr_v.c", '#include "net/zr_n.h"\n', "sim must never include net"),
    "gate including net": ("csrc/gate/zr_v.c", '#include "net/zr_n.h"\n', "gate must never include net"),
    "probe including net": ("csrc/probe/zr_v.c", '#include "net/zr_n.h"\n', "probe must never include net"),
    "wire including net": ("csrc/wire/zr_v.c", '#include "net/zr_n.h"\n', "wire must never include net"),
    "net including wire": ("csrc/net/zr_v.c", '#include "wire/zr_w.h"\n', "net must never include wire"),
    "an include from the wrong place": ("csrc/mem/zr_v.h", '#include "zr_b.h"\n', "no such file below csrc/"),
    "an include out of the tree": ("csrc/mem/zr_v.h", '#include "../relay/x.h"\n', "no such file below csrc/"),
    "a folder nobody knows": ("csrc/cloud/zr_v.h", "", "csrc/cloud: unknown folder"),
    "a file on no floor": ("csrc/zr_v.h", "", "unknown folder"),
    "Python.h": ("csrc/worker/zr_v.c", "#include <Python.h>\n", "Python.h in csrc/"),
    "clock_gettime": (
        "csrc/kcp/zr_v.c",
        "void f(void) { clock_gettime(1, 0); }\n",
        "kcp reads a clock (clock_gettime)",
    ),
    "gettimeofday": ("csrc/net/zr_v.c", "void f(void) { gettimeofday(0, 0); }\n", "net reads a clock (gettimeofday)"),
    "time(NULL)": ("csrc/worker/zr_v.c", "long f(void) { return time (0); }\n", "worker reads a clock (time)"),
    "an intrinsic counter": ("csrc/sim/zr_v.c", "long f(void) { return __rdtsc(); }\n", "sim reads a clock (__rdtsc)"),
    "a counter in assembly": ("csrc/sim/zr_v.c", 'void f(void) { __asm__("rdtsc"); }\n', "sim reads a clock (rdtsc)"),
    "the heap in an engine": ("csrc/kcp/zr_v.c", "void *f(void) { return malloc(1); }\n", "kcp uses the heap (malloc)"),
    "sockets in an engine": ("csrc/kcp/zr_v.h", "#include <netinet/in.h>\n", "sockets belong to csrc/net/"),
    "an import of a higher floor": (
        "relay/errors.py",
        "import relay.config\n",
        "relay.errors (P0) imports relay.config (P1)",
    ),
    "a from import": (
        "relay/tracks.py",
        "from relay.sessions import x\n",
        "relay.tracks (P1) imports relay.sessions (P3)",
    ),
    "a from relay import": ("relay/sdp.py", "from relay import node\n", "relay.sdp (P4) imports relay.node (P5)"),
    "a relative import": ("relay/names.py", "from . import node\n", "relay.names (P0) imports relay.node (P5)"),
    "a relative import in a package": (
        "relay/api/x.py",
        "from ..node import y\n",
        "relay.api (P4) imports relay.node (P5)",
    ),
    "an import in a function": (
        "relay/names.py",
        "def f():\n    import relay.cli\n",
        "relay.names (P0) imports relay.cli (P6)",
    ),
    "an import by name": (
        "relay/names.py",
        "import importlib\nimportlib.import_module('relay.node')\n",
        "relay.names (P0) imports relay.node (P5)",
    ),
    "a module nobody knows": ("relay/cloud.py", "", "relay.cloud: unknown module"),
    "the binding importing upwards": (
        "relay/_core.pyx",
        "from relay.control import x\n",
        "relay._core (P1) imports relay.control (P3)",
    ),
    "the binding including what is not there": ("relay/_core.pxd", 'cdef extern from "base/no.h":\n', "no such file"),
    "the binding reading a clock": ("relay/_core.pyx", "import time\n", "the binding reads a clock"),
    "a part of the binding reading a clock": ("relay/_core_v.pxi", "import time\n", "the binding reads a clock"),
    "a part of the binding importing upwards": (
        "relay/_core_v.pxi",
        "from relay.control import x\n",
        "relay._core (P1) imports relay.control (P3)",
    ),
    "the product importing its tools": ("relay/names.py", "import tools.x\n", "nothing imports it"),
    "time.monotonic": ("relay/sessions.py", "import time\nx = time.monotonic()\n", "reads a clock (time.monotonic)"),
    "a clock as a default": (
        "relay/sessions.py",
        "import time as t\ndef f(clock=t.perf_counter): ...\n",
        "reads a clock (time.perf_counter)",
    ),
    "a clock by its bare name": ("relay/api.py", "from time import time_ns\n", "reads a clock (time.time_ns)"),
    "a date": ("relay/api.py", "from datetime import datetime\nx = datetime.now()\n", "reads a clock (datetime.now)"),
    "the loop's clock": (
        "relay/api.py",
        "import asyncio\nx = asyncio.get_running_loop().time()\n",
        "reads a clock (asyncio.get_running_loop().time)",
    ),
    "a loop kept by name": ("relay/api.py", "def f(self): return self.loop.time()\n", "reads a clock (self.loop.time)"),
}


@pytest.fixture
def tower(tmp_path: Path) -> Path:
    for name, text in SOUND.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def check(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, CHECKER, root], capture_output=True, text=True, check=False)


def test_the_tree_keeps_its_floors() -> None:
    done = check(ROOT)
    assert done.returncode == 0, done.stdout


def test_a_sound_tower_is_green(tower: Path) -> None:
    done = check(tower)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("kind", VIOLATIONS)
def test_a_planted_violation_is_red(tower: Path, kind: str) -> None:
    name, text, rule = VIOLATIONS[kind]
    path = tower / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)

    done = check(tower)

    assert done.returncode == 1
    reported = [line for line in done.stdout.splitlines() if line.startswith(f"{name}:")]
    assert len(reported) == 1, done.stdout
    assert rule in reported[0]


def test_a_violation_is_reported_with_its_line(tower: Path) -> None:
    (tower / "csrc/base/zr_v.h").write_text('/* one\n   two */\n\n#include "mem/zr_b.h"\n')
    assert check(tower).stdout.startswith("csrc/base/zr_v.h:4: ")


def test_an_empty_tree_is_not_green(tmp_path: Path) -> None:
    assert check(tmp_path).returncode == 1


def test_the_drawing_names_every_folder() -> None:
    drawing = (ROOT / "csrc" / "README.md").read_text()
    folders = [path.name for path in (ROOT / "csrc").iterdir() if path.is_dir() and any(path.iterdir())]
    assert [folder for folder in folders if f"`{folder}/`" not in drawing] == []
