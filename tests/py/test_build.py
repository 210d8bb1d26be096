"""The build: the flags are the ones promised, each of them bites, and what came out is hardened."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROMISED = (
    "-std=c11 -O2 -g -fno-omit-frame-pointer -fvisibility=hidden -Wall -Wextra -Wpedantic -Wconversion "
    "-Wsign-conversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Werror"
)

sys.path.insert(0, str(ROOT / "tools"))
import cbuild  # noqa: E402
import cflags  # noqa: E402

PLAIN = cflags.Switches()


# The flags


def test_the_core_is_compiled_with_the_promised_flags() -> None:
    flags = " ".join(cflags.core_cflags(PLAIN))
    assert flags.startswith(PROMISED)
    assert "-Wno-" not in flags


# What only this warning finds: with the flag taken out, it must compile.
BITES = {
    "-Wconversion": "char f(int x);\nchar f(int x)\n{\n    return (x);\n}\n",
    "-Wsign-conversion": "unsigned f(int x);\nunsigned f(int x)\n{\n    return x;\n}\n",
    "-Wshadow": "int f(int x);\nint f(int x)\n{\n    {\n        int x = 1;\n        (void)x;\n    }\n    return x;\n}",
    "-Wstrict-prototypes": "void f();\n",
    "-Wmissing-prototypes": "int f(void)\n{\n    return 0;\n}\n",
    "-Wpedantic": "int f(void);\nint f(void)\n{\n    return ({ 1; });\n}\n",
    "-Wextra": "int f(int x, unsigned y);\nint f(int x, unsigned y)\n{\n    return x < 3 && y >= 0;\n}\n",
    "-Wall": "int f(void);\nint f(void)\n{\n    int unused;\n    return 0;\n}\n",
}


@pytest.mark.parametrize("flag", BITES)
def test_a_planted_warning_stops_the_build(tmp_path: Path, flag: str) -> None:
    (tmp_path / "planted.c").write_text(BITES[flag])
    flags = cflags.core_cflags(PLAIN)
    with pytest.raises(cbuild.BuildError, match=r"-Werror"):
        cbuild.compile_objects(tmp_path, [Path("planted.c")], flags, tmp_path / "out")
    gone = {flag, "-Wconversion"} if flag == "-Wsign-conversion" else {flag}  # the one brings the other, in C
    without = [word for word in flags if word not in gone]
    assert cbuild.compile_objects(tmp_path, [Path("planted.c")], without, tmp_path / "out")[1] == 1


def test_switches_are_read_from_the_environment() -> None:
    assert cflags.Switches.read({}) == PLAIN
    assert cflags.Switches.read({"ZR_SANITIZE": "", "ZR_DEBUG": "0"}) == PLAIN
    switches = cflags.Switches.read({"ZR_SANITIZE": "thread", "ZR_DEBUG": "1"})
    assert switches.variant == "thread-debug"
    assert "-fsanitize=thread" in cflags.core_cflags(switches)
    assert "-DZR_DEBUG" in cflags.core_cflags(switches)


@pytest.mark.parametrize("environ", [{"ZR_SANITIZE": "memory"}, {"ZR_DEBUG": "yes"}])
def test_an_unknown_switch_is_refused(environ: dict[str, str]) -> None:
    with pytest.raises(SystemExit, match=next(iter(environ))):
        cflags.Switches.read(environ)


# Compiled once, and again only when something changed


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Two sources, one of which includes a header."""
    (tmp_path / "csrc/base").mkdir(parents=True)
    (tmp_path / "csrc/base/a.h").write_text("int a(void);\n")
    (tmp_path / "csrc/base/a.c").write_text('#include "base/a.h"\nint a(void)\n{\n    return 1;\n}\n')
    (tmp_path / "csrc/base/b.c").write_text("extern int b;\nint b;\n")
    return tmp_path


def compiled(project: Path, flags: list[str] | None = None) -> int:
    sources = cbuild.core_sources(project)
    return cbuild.compile_objects(project, sources, flags or cflags.core_cflags(PLAIN), project / "out")[1]


def test_an_unchanged_source_is_not_compiled_again(project: Path) -> None:
    assert compiled(project) == 2
    assert compiled(project) == 0


def test_a_changed_header_compiles_its_users_only(project: Path) -> None:
    compiled(project)
    later = (project / "out/csrc/base/a.o").stat().st_mtime_ns + 1_000_000
    os.utime(project / "csrc/base/a.h", ns=(later, later))
    assert compiled(project) == 1


def test_other_flags_compile_everything(project: Path) -> None:
    compiled(project)
    assert compiled(project, [*cflags.core_cflags(PLAIN), "-DX"]) == 2


def test_a_removed_header_compiles_its_users(project: Path) -> None:
    compiled(project)
    (project / "csrc/base/a.h").unlink()
    with pytest.raises(cbuild.BuildError, match=r"base/a\.h"):
        compiled(project)


def test_a_removed_source_leaves_the_library(project: Path) -> None:
    library = project / "libzr.a"
    for names in (["a", "b"], ["b"]):
        sources = [Path(f"csrc/base/{name}.c") for name in names]
        objects, count = cbuild.compile_objects(project, sources, cflags.core_cflags(PLAIN), project / "out")
        cbuild.archive(objects, library, changed=count > 0)
        members = subprocess.run(["ar", "t", library], capture_output=True, text=True, check=True).stdout.split()
        assert members == [f"{name}.o" for name in names]


# The gates for C see what is planted for them

HARNESS = ("csrc/base/zr_base.h", "csrc/base/zr_base.c", "tests/c/zr_test.h", "tests/c/main.c", ".clang-format")
PLANTED = {  # what is planted: the variant that sees it, the body, what it says
    "wrong": ("plain", "CHECK(1 == 2);", "1 == 2"),
    "memory": (
        "asan",
        "char *volatile p = malloc(4); memset(p, 0, 4); CHECK(p[(size_t)zr_four] == 0); free(p);",
        "heap-buffer-overflow",
    ),
    "undefined": ("asan", "int x = 0x7fffffff - 4 + zr_four; CHECK(x + zr_four < 0);", "signed integer overflow"),
    "race": (
        "tsan",
        "pthread_t t; CHECK(pthread_create(&t, NULL, zr_race, NULL) == 0); zr_four++; pthread_join(t, NULL);",
        "data race",
    ),
}


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """A copy of the test harness with nothing to test."""
    for name in HARNESS:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def tool(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "tools" / words[0], *words[1:]]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def plant(bench: Path, body: str) -> None:
    (bench / "tests/c/planted_test.c").write_text(
        '#include "zr_test.h"\n#include <pthread.h>\n'
        "static volatile int zr_four = 4;\n"
        "static void *zr_race(void *arg)\n{\n    zr_four++;\n    return arg;\n}\n"
        f"ZR_TEST(planted)\n{{\n    CHECK(zr_race != NULL);\n    {body}\n}}\n"
    )


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_turns_its_variant_red(bench: Path, bug: str) -> None:
    variant, body, complaint = PLANTED[bug]
    plant(bench, body)
    done = tool("ctest.py", "--variant", variant, "--root", bench)
    assert done.returncode == 1
    assert complaint in done.stderr + done.stdout


@pytest.mark.parametrize("variant", sorted({variant for variant, _, _ in PLANTED.values()}))
def test_a_sound_test_is_green_under_every_variant(bench: Path, variant: str) -> None:
    plant(bench, "CHECK(zr_four == 4);")
    done = tool("ctest.py", "--variant", variant, "--root", bench)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed, 0 failed" in done.stdout


def test_a_header_that_needs_another_is_red(bench: Path) -> None:
    assert tool("check_c.py", "headers", "--root", bench).returncode == 0
    (bench / "csrc/base/zr_planted.h").write_text("static inline uint8_t f(uint8_t x)\n{\n    return x;\n}\n")
    done = tool("check_c.py", "headers", "--root", bench)
    assert done.returncode == 1
    assert "zr_planted.h" in done.stdout


def test_a_header_without_a_guard_is_red(bench: Path) -> None:
    (bench / "csrc/base/zr_planted.h").write_text("enum planted { ZR_PLANTED };\n")
    assert tool("check_c.py", "headers", "--root", bench).returncode == 1


def test_a_crooked_file_is_red(bench: Path) -> None:
    for path in (bench / "csrc").rglob("*.[ch]"):
        path.unlink()
    for path in (bench / "tests").rglob("*.[ch]"):
        path.unlink()
    (bench / "csrc/base/zr_straight.h").write_text("int f(int x);\n")
    done = tool("check_c.py", "format", "--root", bench)
    if done.returncode == 77:
        pytest.skip("clang-format 14 is not installed (Debian: clang-format-14)")
    assert done.returncode == 0, done.stdout
    (bench / "csrc/base/zr_straight.h").write_text("int f( int x ) ;\n")
    assert tool("check_c.py", "format", "--root", bench).returncode == 1


# What came out


@pytest.fixture(scope="module")
def extension() -> Path:
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    path = ROOT / "relay" / f"_core{suffix}"
    assert path.exists(), "relay._core is not built: python setup.py build_ext --inplace"
    return path


def readelf(*words: str | Path) -> str:
    if shutil.which("readelf") is None:
        pytest.skip("readelf is not installed (Debian: binutils)")
    return subprocess.run(["readelf", "-W", *words], capture_output=True, text=True, check=True).stdout


def undefined_symbols(path: Path) -> set[str]:
    return set(re.findall(r"\bUND\s+([^\s@]+)", readelf("--dyn-syms", path)))


def test_the_extension_has_full_relro(extension: Path) -> None:
    assert "GNU_RELRO" in readelf("-l", extension)
    assert "BIND_NOW" in readelf("-d", extension)


def test_the_extension_has_no_executable_stack(extension: Path) -> None:
    flags = re.search(r"GNU_STACK(?:\s+0x[0-9a-f]+){5}\s+(\S+)", readelf("-l", extension))
    assert flags is not None
    assert flags[1] == "RW"


def test_the_extension_has_no_writable_code(extension: Path) -> None:
    assert re.findall(r"^\s+LOAD.*\bRWE\b", readelf("-l", extension), re.M) == []
    assert "TEXTREL" not in readelf("-d", extension)


def test_the_extension_has_a_stack_protector(extension: Path) -> None:
    assert "__stack_chk_fail" in undefined_symbols(extension)


def test_the_extension_calls_fortified_functions(extension: Path) -> None:
    assert [name for name in undefined_symbols(extension) if re.fullmatch(r"__\w+_chk", name)]


def test_the_extension_exports_its_init_only(extension: Path) -> None:
    symbols = readelf("--dyn-syms", extension)
    exported = re.findall(r"\b(?:GLOBAL|WEAK)\s+DEFAULT\s+\d+\s+(\S+)", symbols)
    assert exported == ["PyInit__core"]


def test_the_extension_lacks_nothing_of_ours(extension: Path) -> None:
    """A library may be linked with holes; they would show at the first import only."""
    assert [name for name in undefined_symbols(extension) if name.startswith("zr_")] == []


def test_the_binding_has_no_performance_hints(tmp_path: Path) -> None:
    """Cython hints where a nogil function would take the GIL to look for an exception: on the packet path, an error."""
    source = ROOT / "relay" / "_core.pyx"
    command = [sys.executable, "-m", "cython", "-3", "-I", ROOT, "-o", tmp_path / "_core.c", source]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "performance hint" not in done.stdout + done.stderr


def test_a_change_of_a_part_makes_the_binding_anew() -> None:
    from Cython.Build.Dependencies import create_dependency_tree

    needs = {Path(name).resolve() for name in create_dependency_tree().all_dependencies(str(ROOT / "relay/_core.pyx"))}
    parts = set((ROOT / "relay").glob("_core*.p*[di]")) - {ROOT / "relay/_core.pyi"}
    assert len(parts) > 1
    assert parts <= needs


def test_the_source_distribution_has_every_part_of_the_bindings(monkeypatch: pytest.MonkeyPatch) -> None:
    from setuptools.command.egg_info import FileList

    listed = FileList()
    monkeypatch.chdir(ROOT)
    for line in Path("MANIFEST.in").read_text().splitlines():
        listed.process_template_line(line)
    assert {str(path) for path in Path("relay").glob("_*.p[yx][xdi]")} <= set(listed.files)
