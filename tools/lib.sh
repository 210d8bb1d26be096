# Shared by tools/quickstart and tools/test: system packages, the virtual environment, the build. Sourced, not run.
# Each part finds out whether there is anything to do, says what it does, and may be repeated.

PACKAGES_BUILD="python3-venv python3-dev gcc libssl-dev"
PACKAGES_MEDIA="ffmpeg gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good
    gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-libav"
PACKAGES_TEST="binutils clang-format-14 curl strace valgrind"
# Other implementations that tests and figures talk to. Tests that miss theirs are skipped and name it.
PACKAGES_PEERS="golang-go golang-github-xtaci-kcp-dev linux-perf wireguard-go wireguard-tools iproute2"
PACKAGES_PEERS_FULL="srt-tools rist-tools"

say() { printf '%s\n' "$*"; }
die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

# need_packages yes|no PACKAGE...    "no": print what is missing and stop.
need_packages() {
    local may_install=$1 missing=() package
    shift
    if ! command -v dpkg-query >/dev/null; then
        say "not a Debian system: expecting that these are there: $*"
        return
    fi
    local installed
    installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "$@" 2>/dev/null || true)
    for package in "$@"; do
        grep -qx "installed $package" <<<"$installed" || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return

    local as_root=() install
    [ "$(id -u)" -eq 0 ] || as_root=(sudo)
    install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}")
    say "missing system packages; this installs them:"
    say "    ${as_root[*]:+${as_root[*]} }apt-get install -y --no-install-recommends ${missing[*]}"
    [ "$may_install" = yes ] || die "stopped (--no-apt)"
    [ ${#as_root[@]} -eq 0 ] || command -v sudo >/dev/null || die "not root and no sudo: run that line as root"

    # The package lists are refreshed only when they are absent or turn out to be stale.
    if ! apt-get install --simulate -qq "${missing[@]}" >/dev/null 2>&1 || ! "${install[@]}"; then
        say "refreshing the package lists: ${as_root[*]:+${as_root[*]} }apt-get update"
        "${as_root[@]}" apt-get update
        "${install[@]}"
    fi
}

# want_packages yes|no PACKAGE...    The same for what may be absent: goes on without.
want_packages() {
    command -v dpkg-query >/dev/null || return 0
    (need_packages "$@") || say "going on without: tests that want one of these are skipped"
}

# Prints a python that can build us: 3.11 or later, with venv and its headers. $ZR_PYTHON comes first.
find_python() {
    local name
    for name in ${ZR_PYTHON:-} python3 /usr/bin/python3 python3.11 python3.12 python3.13; do
        if "$name" - 2>/dev/null <<'PY'; then
import ensurepip, pathlib, sys, sysconfig, venv
sys.exit(sys.version_info < (3, 11) or not (pathlib.Path(sysconfig.get_path("include")) / "Python.h").exists())
PY
            command -v "$name"
            return
        fi
    done
    die "no Python >= 3.11 with venv and headers (Debian: python3-venv python3-dev); name one with ZR_PYTHON=..."
}

# What an installation and a build depend on, each as one line that changes when it does.
hash_of() { sha256sum "$@" | sha256sum | cut -d' ' -f1; }
packages_hash() { hash_of pyproject.toml; }
sources_hash() {
    local files
    mapfile -t files < <(find csrc relay -name '*.[ch]' ! -name _core.c -o -name '*.p[yx][xd]' -o -name '*.pxi' | LC_ALL=C sort)
    printf '%s %s %s\n' "${ZR_SANITIZE:-}" "${ZR_DEBUG:-}" \
        "$(hash_of setup.py tools/cflags.py tools/cbuild.py "${files[@]}")"
}

# python_packages run|test    .venv with what zrelay needs, and for "test" what its tests need.
python_packages() {
    local extra=$1 packages
    if ! .venv/bin/python -c '' 2>/dev/null; then
        local base
        base=$(find_python)
        say "making .venv with $base"
        rm -rf .venv build/stamp.*
        "$base" -m venv .venv
    fi
    mkdir -p build
    packages=$(packages_hash)
    # What a test run installed is enough for a plain run, not the other way round.
    if [ "$(cat build/stamp.test 2>/dev/null)" = "$packages" ]; then return; fi
    if [ "$extra" = run ] && [ "$(cat build/stamp.run 2>/dev/null)" = "$packages" ]; then return; fi
    say "installing Python packages into .venv"
    .venv/bin/python - "$extra" >build/requirements.txt <<'PY'
import sys, tomllib
project = tomllib.load(open("pyproject.toml", "rb"))
wanted = project["build-system"]["requires"] + project["project"]["dependencies"]
if sys.argv[1] == "test":
    wanted += project["project"]["optional-dependencies"]["test"]
print(*wanted, sep="\n")
PY
    pip_install -r build/requirements.txt || { cat build/pip.log >&2; die "pip failed"; }
    printf '%s\n' "$packages" >"build/stamp.$extra"
}

# relay._core and the command .venv/bin/zrelay, made again only when something they come from has changed.
build_project() {
    local packages sources
    packages=$(packages_hash)
    sources=$(sources_hash)
    if [ "$(cat build/stamp.editable 2>/dev/null)" != "$packages" ] || [ ! -x .venv/bin/zrelay ]; then
        say "building zrelay and installing it into .venv (editable)"
        rm -f build/stamp.editable build/stamp.sources
        if ! pip_install --no-build-isolation --no-deps -e .; then
            # The same build without pip around it says what is wrong in fewer words.
            .venv/bin/python setup.py -q build_ext --inplace >&2 || die "the build failed"
            cat build/pip.log >&2
            die "pip install -e . failed"
        fi
        printf '%s\n' "$packages" >build/stamp.editable
    elif [ "$(cat build/stamp.sources 2>/dev/null)" != "$sources" ] || ! ls relay/_core.*.so >/dev/null 2>&1; then
        say "building relay._core"
        rm -f build/stamp.sources
        .venv/bin/python setup.py -q build_ext --inplace || die "the build failed"
    else
        return 0 # not the status of the test above
    fi
    printf '%s\n' "$sources" >build/stamp.sources
}

pip_install() { .venv/bin/python -m pip --disable-pip-version-check --no-input -q install "$@" >build/pip.log 2>&1; }
