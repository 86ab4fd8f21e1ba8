"""What an evaluation found: a line per set and system, means by kind of task as RefuelLLM-2 gives them."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from jobs.comparison import Comparison
from jobs.scores import COVERAGES, Score
from schemas.suite import Kind

HEADINGS = ("set", "system", "rows", "measure", "quality", "95 %", "accuracy", "completion", "AUROC")
DECIMALS = 1


@dataclass(frozen=True)
class Line:
    """One system on one set."""

    name: str
    kind: Kind | str
    task: str
    system: str
    score: Score
    note: str = ""


@dataclass(frozen=True)
class Evaluation:
    """All lines of one suite; `comparison` is of the stored scores, where that was asked for."""

    output: str
    lines: tuple[Line, ...]
    rows: int
    seed: int
    comparison: Comparison | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the facts as JSON-able values."""
        return {**asdict(self), "means": self.means()}

    def means(self) -> dict[str, dict[str, float]]:
        """By system: the mean quality by kind of task, and over all sets, of those that the first system answers."""
        systems = list(dict.fromkeys(line.system for line in self.lines))
        found: dict[str, dict[str, float]] = {}
        for system in systems:
            mine = [line for line in self.lines if line.system == system]
            kinds = {kind: _mean([one for one in mine if one.kind == kind]) for kind in self._kinds()}
            means = {kind: mean for kind, mean in kinds.items() if mean is not None}
            whole = _mean(mine) if len(mine) == len({line.name for line in self.lines}) else None
            found[system] = ({} if whole is None else {"overall": whole}) | means
        return found

    def render(self) -> Group:
        """Return the tables for a terminal."""
        table = Table(title=f"{self.rows} rows a set, seed {self.seed}", title_justify="left")
        for heading in HEADINGS:
            table.add_column(heading, justify="left" if heading in HEADINGS[:2] else "right")
        for line in self._sorted():
            table.add_row(*_cells(line))
        means = Table(title="mean quality", title_justify="left")
        for heading in self._mean_headings():
            means.add_column(heading, justify="right" if heading != "system" else "left")
        for row in self._mean_rows():
            means.add_row(*row)
        if self.comparison is None:
            return Group(table, means, Text(f"written: {self.output}/scores.json and scores.md"))
        files = f"{self.output}/scores.json and scores.md, confidences.json and confidences.md"
        return Group(table, means, self.comparison.render(), Text(f"written: {files}"))

    def write(self, folder: Path) -> None:
        """Write the facts as JSON and as Markdown."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.as_dict(), indent=2, ensure_ascii=False)
        (folder / "scores.json").write_text(text + "\n", encoding="utf-8")
        (folder / "scores.md").write_text("\n".join(self.markdown()) + "\n", encoding="utf-8")
        if self.comparison is not None:
            self.comparison.write(folder)

    def markdown(self) -> Iterator[str]:
        """The tables as lines of Markdown."""
        yield from _table(self._mean_headings(), self._mean_rows())
        yield ""
        more = (*HEADINGS, *(f"at {share:.0%}" for share in COVERAGES), "label mass", "s", "more")
        yield from _table(more, [_long_cells(line) for line in self._sorted()])

    def _sorted(self) -> list[Line]:
        places = {name: at for at, name in enumerate(dict.fromkeys(line.name for line in self.lines))}
        return sorted(self.lines, key=lambda line: places[line.name])

    def _kinds(self) -> list[str]:
        return list(dict.fromkeys(line.kind for line in self.lines))

    def _mean_headings(self) -> tuple[str, ...]:
        return ("system", "overall", *self._kinds())

    def _mean_rows(self) -> list[tuple[str, ...]]:
        return [
            (system, *(_percent(means.get(heading)) for heading in self._mean_headings()[1:]))
            for system, means in self.means().items()
        ]


def _cells(line: Line) -> tuple[str, ...]:
    one = line.score
    interval = f"{one.low:.1%} to {one.high:.1%}".replace("%", "")
    figures = (_percent(one.quality), interval, _percent(one.accuracy), _percent(one.completion))
    auroc = "" if one.auroc is None else f"{one.auroc:.3f}"
    return (line.name, line.system, f"{one.rows:,}", one.measure, *figures, auroc)


def _long_cells(line: Line) -> tuple[str, ...]:
    one = line.score
    covered = tuple(_percent(one.coverage.get(f"{share:.0%}")) for share in COVERAGES)
    mass = "" if one.label_mass is None else f"{one.label_mass:.3f}"
    seconds = "" if one.seconds is None else f"{one.seconds:.0f}"
    more = ", ".join([*(f"{name} {_percent(value)}" for name, value in one.more.items()), *filter(None, [line.note])])
    return (*_cells(line), *covered, mass, seconds, more)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(headings) + " |"
    yield "|" + "---|" * len(headings)
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.{DECIMALS}f}"


def _mean(lines: Sequence[Line]) -> float | None:
    return sum(line.score.quality for line in lines) / len(lines) if lines else None
