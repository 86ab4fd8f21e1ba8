"""A report as one HTML page: no script, nothing from the network, every text escaped, pictures inside."""

import importlib.resources
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup, escape
from rich.table import Table

from schemas.errors import JobFileError
from udfs.extras import need

# no picture of the page is drawn by anything that could run; it says so to the browser, too
INK, ACCEPTED, WAITING, LINE = "#8a8f98", "#2f8f6b", "#c98a2b", "#4a7fd6"
FRAME_PIXELS = 800  # the height in a notebook, where the page scrolls by itself


@dataclass(frozen=True)
class Judged:
    """One judged row, with its texts."""

    key: str
    inputs: str
    answer: str
    right: bool
    confidence: float | None
    correction: str | None = None


@dataclass(frozen=True)
class ColumnReport:
    """What is known of one column.

    Attributes:
        bins: cells by confidence, from 0 to 1, accepted ones and others.
        reliability: of judged rows by confidence, with 95 % intervals; see `jobs.calibration.measured`.
        risk: pairs of the share of judged rows kept, the surest first, and the share of them that is wrong.
        kinds: of mistakes: answer, what was right, how often.
        mistakes: the surest of them. `to_review`: the least sure that wait.
        accept: what an answer needs in order to be written.
        held_out: what was measured of the calibration in use when it was made, on rows that it was not fitted on.
        promises: how many written cells a promise is about (`promised`), and how many go by its threshold (`carried`).
    """

    name: str
    task: str
    statuses: Mapping[str, int]
    bins: Sequence[tuple[int, int]]
    judged: int
    figures: Mapping[str, Any] = field(default_factory=dict)
    reliability: Sequence[Mapping[str, Any]] = ()
    risk: Sequence[tuple[float, float]] = ()
    promised: tuple[float, float] | None = None
    kinds: Sequence[tuple[str, str, int]] = ()
    mistakes: Sequence[Judged] = ()
    to_review: Sequence[Judged] = ()
    promises: Mapping[str, int] = field(default_factory=dict)
    accept: str = ""
    held_out: Mapping[str, Any] = field(default_factory=dict)

    @property
    def curve(self) -> Sequence[Mapping[str, Any]]:
        """How often answers of each confidence are right; under a calibration, on rows it was not fitted on."""
        return self.held_out.get("reliability") or self.reliability


@dataclass(frozen=True)
class Report:
    """One page; in a notebook it shows itself.

    Attributes:
        compared: figures of the last run that differ from the run before: column, figure, before, now.
    """

    target: str
    source: str
    model: str
    remarks: tuple[str, ...]
    runs: tuple[dict[str, Any], ...]
    columns: tuple[ColumnReport, ...]
    compared: tuple[dict[str, Any], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the facts as JSON-able values."""
        return json.loads(json.dumps(vars(self), default=vars))  # type: ignore[no-any-return]

    def html(self) -> str:
        """Return the page."""
        return page(self)

    def _repr_html_(self) -> str:
        # a document of its own: its style must not reach the notebook's page, nor anything in it run there
        frame = '<iframe sandbox="" width="100%" height="{}" style="border: 0" srcdoc="{}"></iframe>'
        return frame.format(FRAME_PIXELS, escape(self.html()))

    def render(self) -> Table:
        """Return a summary for a terminal."""
        table = Table(title=self.target, title_justify="left")
        for heading in ("column", "accepted", "review", "judged", "right"):
            table.add_column(heading, justify="left" if heading == "column" else "right")
        for one in self.columns:
            right = one.figures.get("right")
            counts = (f"{one.statuses.get(status, 0):,}" for status in ("accepted", "review"))
            table.add_row(one.name, *counts, f"{one.judged:,}", "" if right is None else f"{right:.1%}")
        return table

    def write(self, file: Path) -> None:
        """Write the page, and the same facts as JSON beside it.

        Raises:
            JobFileError: a file cannot be written.
        """
        try:
            file.write_text(self.html(), encoding="utf-8")
            text = json.dumps(self.as_dict(), ensure_ascii=False, indent=2)
            file.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
        except OSError as problem:
            raise JobFileError(f"{file}: cannot be written: {problem.strerror}") from problem


def page(report: Report) -> str:
    """Return the page.

    Raises:
        EnvironmentProblem: matplotlib is not installed.
    """
    need("matplotlib", extra="evaluate", what="reports")
    template = importlib.resources.files("jobs").joinpath("report.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    pictures = {one.name: _pictures(one) for one in report.columns}
    return environment.from_string(template).render(report=report, pictures=pictures)


def _pictures(one: ColumnReport) -> list[Markup]:
    found = [_drawn("Confidence of the answers", "confidence", "cells", lambda axes: _histogram(axes, one))]
    if one.curve:
        found.append(
            _drawn("Are they right as often as they say?", "confidence", "share right", lambda axes: _curve(axes, one))
        )
    if one.risk:
        found.append(
            _drawn("What the surest answers cost", "share of rows kept", "share wrong", lambda axes: _risks(axes, one))
        )
    return found


def _histogram(axes: Any, one: ColumnReport) -> None:
    width = 1 / len(one.bins)
    places = [at * width for at in range(len(one.bins))]
    written, waiting = [pair[0] for pair in one.bins], [pair[1] for pair in one.bins]
    axes.bar(places, written, width * 0.9, align="edge", color=ACCEPTED, label="written or unchanged")
    axes.bar(places, waiting, width * 0.9, bottom=written, align="edge", color=WAITING, label="in review")
    axes.legend(frameon=False, labelcolor=INK)


def _curve(axes: Any, one: ColumnReport) -> None:
    places = [part["confidence"] for part in one.curve]
    shares = [part["right"] for part in one.curve]
    below = [max(0.0, part["right"] - part["low"]) for part in one.curve]
    above = [max(0.0, part["high"] - part["right"]) for part in one.curve]
    axes.plot([0, 1], [0, 1], linestyle="--", color=INK, linewidth=0.8)
    axes.errorbar(places, shares, yerr=[below, above], fmt="o-", color=LINE, ecolor=INK, capsize=2)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)


def _risks(axes: Any, one: ColumnReport) -> None:
    axes.plot([share for share, _ in one.risk], [wrong for _, wrong in one.risk], color=LINE)
    if one.promised is not None:
        axes.plot(*one.promised, "D", color=ACCEPTED)
        axes.annotate("promised", one.promised, xytext=(4, 6), textcoords="offset points", color=INK)
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)


def _drawn(title: str, across: str, up: str, draw: Any) -> Markup:
    """One picture as SVG; its colours read on light and on dark."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        figure = Figure(figsize=(4.6, 3.0), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        axes.set_title(title, color=INK, fontsize=10)
        axes.set_xlabel(across, color=INK)
        axes.set_ylabel(up, color=INK)
        axes.tick_params(colors=INK)
        axes.patch.set_alpha(0)
        for edge in axes.spines.values():
            edge.set_color(INK)
        draw(axes)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    return Markup(text[text.index("<svg") :])  # noqa: S704 - numbers and our own words
