"""Is every memory order in the sources needed? Weakens them one at a time and expects somebody to notice.

The mutants come from the sources: every acquire, release, acq_rel and seq_cst below csrc/ring and in csrc/stat, each
with all orders that are weaker, and every exchange as a plain load and store. ThreadSanitizer (two threads on a ring or
an inbox) and the explorer (all interleavings, all values that C11 allows) look at each. One that neither catches is an
order without a reason: the run fails. So does an order elsewhere in csrc/ that is not listed here.

    python tests/proof/orders.py [--list]
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
OUT = ROOT / "build" / "proof"
JOBS = 2
SECONDS_MAX = 120
TSAN_OPERATIONS = 400_000

FLOORS = ("csrc/ring", "csrc/stat")
RACY = ("ring/zr_spsc.c", "ring/zr_inbox.c")  # a weaker order lets the records race; elsewhere all words are atomic
CORE = [*sorted(str(path.relative_to(ROOT)) for path in (ROOT / "csrc/ring").glob("*.c")), "csrc/base/zr_err.c"]
EXPLORED = [*CORE, "csrc/stat/zr_stat.c", "tests/proof/explore/scenarios.c"]
# Orders that are nobody's proof: the file, how many, and why they are harmless.
ELSEWHERE = {
    "csrc/mem/zr_life.c": (3, "the kernel is the other side: it writes the word at a process's end (life_test.c)"),
    "csrc/worker/zr_worker.c": (1, "the pid in the page; its readers wait for the worker's message on a socket"),
    "csrc/worker/zr_agentlane.c": (1, "the same, for the agent's own page"),
    "csrc/forward/zr_stream.c": (1, "a row's epoch behind its numbers, for a successor (stepper)"),
    "csrc/forward/zr_journal.c": (1, "a compiler fence; read by a successor only, after the writer's death (stepper)"),
}

ORDER = re.compile(r"memory_order_(acquire|release|acq_rel|seq_cst)\b")
EXCHANGE = re.compile(r"(\(void\))?atomic_exchange_explicit\((\w+), (\w+), memory_order_\w+\)")
WEAKER = {
    "acquire": ["relaxed"],
    "release": ["relaxed"],
    "acq_rel": ["acquire", "release", "relaxed"],
    "seq_cst": ["acq_rel", "relaxed"],
}


@dataclass(frozen=True)
class Mutant:
    number: int
    file: str  # relative to csrc/
    line: int
    what: str
    text: str  # the whole file, mutated


def split_exchange(found: re.Match[str]) -> str:
    """A load and a store instead, each as strong as they get: what is missing is that they are one."""
    discard, at, value = found.groups()
    store = f"atomic_store_explicit({at}, {value}, memory_order_seq_cst)"
    return store if discard else f"(atomic_load_explicit({at}, memory_order_seq_cst) + ({store}, 0u))"


def mutants() -> list[Mutant]:
    found: list[Mutant] = []
    for floor in FLOORS:
        for path in sorted((ROOT / floor).glob("*.[ch]")):
            text = path.read_text()
            name = str(path.relative_to(ROOT / "csrc"))

            def add(at: int, end: int, new: str, what: str, text: str = text, name: str = name) -> None:
                line = text.count("\n", 0, at) + 1
                found.append(Mutant(len(found), name, line, what, text[:at] + new + text[end:]))

            for order in ORDER.finditer(text):
                for weaker in WEAKER[order[1]]:
                    add(*order.span(), f"memory_order_{weaker}", f"{order[1]} -> {weaker}")
            for exchange in EXCHANGE.finditer(text):
                add(*exchange.span(), split_exchange(exchange), "exchange -> load, store")
    return found


def unlisted() -> list[str]:
    """Orders outside of what is proved here, unless ELSEWHERE knows them."""
    complaints = []
    for path in sorted((ROOT / "csrc").glob("*/*.[ch]")):
        name = str(path.relative_to(ROOT))
        if name.startswith(FLOORS):
            continue
        count = len(ORDER.findall(path.read_text()))
        if count != ELSEWHERE.get(name, (0, ""))[0]:
            complaints.append(f"{name}: {count} memory orders that no proof covers (tests/proof/orders.py, ELSEWHERE)")
    return complaints


def build(program: str, where: Path, first: Path | None) -> Path:
    """ "tsan" or "explore", with the files of `first` before those of csrc/."""
    where.mkdir(parents=True, exist_ok=True)
    flags = "-std=c11 -O1 -g -w -D_GNU_SOURCE -pthread".split()
    flags += [f"-I{first}"] if first else []
    flags += ["-Icsrc", "-Itests/proof/explore"]
    if program == "tsan":
        flags += ["-fsanitize=thread"]
        sources, more = [*CORE, "tests/proof/ring_tsan.c"], []
    else:
        flags += ["-include", "tests/proof/explore/atomics.h"]
        sources, more = EXPLORED, [str(explorer())]
    if first:
        swapped = {f"csrc/{path.relative_to(first)}": str(path) for path in first.glob("*/*.c")}
        sources = [swapped.get(source, source) for source in sources]
    target = where / program
    subprocess.run(["gcc", *flags, *sources, *more, "-o", str(target)], cwd=ROOT, check=True)
    return target


def explorer() -> Path:
    """The explorer itself, compiled once, without its own macros."""
    target, source = OUT / "explore.o", ROOT / "tests/proof/explore/explore.c"
    if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
        OUT.mkdir(parents=True, exist_ok=True)
        subprocess.run(["gcc", *"-std=c11 -O2 -g -Wall -Wextra -Werror -c -o".split(), target, source], check=True)
    return target


def run(program: Path, *words: str, seconds: int = SECONDS_MAX) -> tuple[int, str]:
    environment = {"TSAN_OPTIONS": "halt_on_error=1 exitcode=66", "PATH": "/usr/bin:/bin"}

    def once(command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["timeout", str(seconds), *command], env=environment, capture_output=True, text=True, check=False
        )

    done = once([str(program), *words])
    if "unexpected memory mapping" in done.stderr:  # TSan and vm.mmap_rnd_bits
        done = once(["setarch", "-R", str(program), *words])
    return done.returncode, done.stdout + done.stderr


def caught_by(mutant: Mutant) -> tuple[Mutant, list[str]]:
    where = OUT / f"m{mutant.number}"
    shutil.rmtree(where, ignore_errors=True)
    changed = where / "csrc" / mutant.file
    changed.parent.mkdir(parents=True)
    changed.write_text(mutant.text)
    # A header in csrc/ is found beside the file that names it with its floor, so the mutated one comes first.
    catchers = []
    if mutant.file in RACY:
        status, output = run(build("tsan", where, where / "csrc"), str(TSAN_OPERATIONS))
        if status == 66 and "data race" in output:
            catchers.append("TSan")
        elif status not in (0, 66):
            catchers.append(f"TSan run, exit status {status}")
    status, output = run(build("explore", where, where / "csrc"))
    if status == 1:
        scenario, _, rest = next(line for line in output.splitlines() if not line.endswith("ok")).partition(" ")
        catchers.append(f"explorer ({scenario}: {rest.split(' ', 3)[3].partition(' after ')[0]})")
    shutil.rmtree(where)
    return mutant, catchers


def main() -> int:
    every = mutants()
    if "--list" in sys.argv:
        print(*(f"{m.file}:{m.line}: {m.what}" for m in every), sep="\n")
        return 0
    status, output = run(build("explore", OUT, None), seconds=200)
    print(output, end="")
    if status != 0:
        print("the explorer finds a fault in the sources as they are")
        return 1
    with ThreadPoolExecutor(JOBS) as pool:
        results = list(pool.map(caught_by, every))
    survivors = 0
    for mutant, catchers in results:
        survivors += not catchers
        print(f"{mutant.file}:{mutant.line}: {mutant.what}: {', '.join(catchers) or 'NOT CAUGHT'}")
    by_tsan = sum("TSan" in catchers for _, catchers in results)
    by_explorer = sum(any(word.startswith("explorer") for word in catchers) for _, catchers in results)
    print(
        f"{len(every)} mutants of the memory orders: {len(every) - survivors} caught "
        f"({by_tsan} by TSan, {by_explorer} by the explorer), {survivors} not"
    )
    complaints = unlisted()
    print(*complaints, sep="\n", end="\n" if complaints else "")
    return 1 if survivors or complaints or not every else 0


if __name__ == "__main__":
    sys.exit(main())
