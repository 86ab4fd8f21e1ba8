"""Progress of a run: a bar on a terminal, a line every few seconds elsewhere, or in the log; always on stderr."""

import logging
import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from jobs.waves import Progress as Asked
from udfs.logs import facts

LINE_EVERY_SEC = 10.0

log = logging.getLogger(__name__)


class Reporter:
    """Shows an ask phase; use it as a context manager."""

    def __init__(self, asked: Asked, *, cached_share: float) -> None:
        """Show nothing yet; `cached_share` is the part of the cells that the answers table knew."""
        self.asked, self.cached_share = asked, cached_share
        self.bar: Progress | None = None
        self.task = TaskID(0)
        self.last_line = 0.0

    def __enter__(self) -> "Reporter":
        """Open the bar where there is a terminal."""
        if sys.stderr.isatty() and self.asked.questions and not log.isEnabledFor(logging.INFO):
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[facts]}"),
            )
            self.bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self.task = self.bar.add_task("asking", total=self.asked.questions, facts="")
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.stop()

    def show(self) -> None:
        """Bring the display up to date."""
        if self.bar is not None:
            self.bar.update(self.task, completed=self.asked.shown, facts=self.facts())
        elif self.asked.questions and time.monotonic() - self.last_line >= LINE_EVERY_SEC:
            self.last_line = time.monotonic()
            line = f"asked {self.asked.shown:,} of {self.asked.questions:,} questions, {self.facts()}"
            if log.isEnabledFor(logging.INFO):
                log.info(line, extra=facts(**self.figures()))
            else:
                sys.stderr.write(f"{line}\n")

    def figures(self) -> dict[str, int | float]:
        """Return how far the run is and how fast, as numbers."""
        asked, seconds = self.asked, max(self.asked.seconds, 1e-9)
        rate = round(asked.shown / seconds, 3)
        return {"asked": asked.shown, "questions": asked.questions, "waves": asked.waves, "rows_per_sec": rate}

    def facts(self) -> str:
        """Return rates, the share that cost nothing, and the time left."""
        asked, seconds = self.asked, max(self.asked.seconds, 1e-9)
        tokens = max(asked.seen_tokens, asked.prompt_tokens + asked.completion_tokens)
        left = (asked.questions - asked.shown) * seconds / asked.shown if asked.shown else None
        parts = [f"{asked.shown / seconds:.1f} rows/s", f"{tokens / seconds:,.0f} tokens/s"]
        parts.append(f"{self.cached_share:.0%} from the table")
        parts.append("no task has ended yet" if left is None else f"{left:,.0f} s left")
        return ", ".join(parts)
