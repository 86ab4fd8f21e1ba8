"""A driver that dies: `python -m tests.faults.drive JOB.yaml FACTS.json` runs a job and is killed at a named point.

The code that runs is burnish's own; around the function at whose end (or in whose midst) the point lies stands a
wrapper that sends this process SIGKILL. `facts`: point, turn (which time it is met), delay (seconds), group (whether
the whole process group dies, JVM and engine included), waves (into how many the questions are cut).
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from jobs import lake, publish, run, waves
from jobs.session import spark_session
from jobs.store import Store, store_of
from schemas.job import EnrichJob
from schemas.options import RunOptions
from schemas.yaml_file import load_job
from tests.shop import for_small_tables

HOME = Path(__file__).parents[2]
POINTS = (
    "planned",
    "store-created",
    "wave-computed",
    "wave-committed",
    "waves-done",
    "columns-added",
    "changes-logged",
    "merge-under-way",
    "merge-committed",
    "report-half-written",
    "between-runs",
)


class Killer:
    """Ends this process the n-th time that its point is met."""

    def __init__(self, facts: dict[str, Any]) -> None:
        """Nothing is met yet."""
        self.facts, self.met, self.lock = facts, 0, threading.Lock()

    def strike(self) -> None:
        """Die now, if it is the turn."""
        with self.lock:
            self.met += 1
            if self.met < self.facts.get("turn", 1):
                return
        self.kill()

    def kill(self) -> None:
        """Die at once."""
        if self.facts["group"]:
            os.killpg(os.getpgid(0), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    def after(self, holder: Any, name: str, *, when: Callable[..., bool] = lambda *args, **words: True) -> None:
        """Strike whenever a function has returned."""
        plain = getattr(holder, name)

        def wrapped(*args: Any, **words: Any) -> Any:
            found = plain(*args, **words)
            if when(*args, **words):
                self.strike()
            return found

        setattr(holder, name, wrapped)

    def amid(self, holder: Any, name: str, *, seconds: float) -> None:
        """Strike so long after a function has begun, or at its end if that comes first."""
        plain = getattr(holder, name)

        def wrapped(*args: Any, **words: Any) -> Any:
            threading.Timer(seconds, self.kill).start()
            found = plain(*args, **words)
            self.kill()
            return found

        setattr(holder, name, wrapped)

    def once_written(self, folder: Path) -> None:
        """Strike when a table's folder holds a data file that no commit names yet."""

        def look() -> None:
            commits = -1
            files: set[Path] = set()
            while True:
                now = len(list((folder / "_delta_log").glob("*.json")))
                there = set(folder.glob("*.parquet"))
                if now == commits and there - files:
                    self.strike()
                if now != commits or there - files:
                    commits, files = now, there
                time.sleep(0.002)

        threading.Thread(target=look, daemon=True).start()


def armed(facts: dict[str, Any], job: EnrichJob) -> None:
    """Put the wrapper where the point is."""
    killer, store = Killer(facts), store_of(job)
    answers, runs = store.place("answers"), store.place("runs")
    module: Any = run
    points: dict[str, Callable[[], None]] = {
        "planned": partial(killer.after, module, "prepare"),
        "store-created": partial(killer.after, Store, "create"),
        "wave-computed": partial(killer.once_written, Path(str(answers.path))),
        "wave-committed": partial(killer.after, lake, "append", when=lambda frame, place, **words: place == answers),
        "waves-done": partial(killer.after, waves.Asking, "run"),
        "columns-added": partial(killer.after, publish, "ensure_target"),
        "changes-logged": partial(killer.after, publish, "log_changes"),
        "merge-under-way": partial(killer.amid, publish, "merge", seconds=facts.get("delay", 0.5)),
        "merge-committed": partial(killer.after, publish, "merge"),
        "report-half-written": partial(killer.after, run, "confirm", when=lambda *a, **w: _arm(killer, runs.path)),
        "between-runs": partial(killer.after, run.Night, "report"),
    }
    points[facts["point"]]()


def _arm(killer: Killer, folder: str | None) -> bool:
    """Watch the table of runs from now on: the report is the next that is written to it."""
    killer.once_written(Path(str(folder)))
    return False


def main() -> None:
    """Run the job until the point is met."""
    job, facts = load_job(Path(sys.argv[1])), json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    cut_into(facts.get("waves", 6))
    armed(facts, job)
    result = run.run(for_small_tables(spark_session("burnish-faults", cores=2)), job, options=RunOptions())
    print(json.dumps(result.as_dict()))


def cut_into(count: int) -> None:
    """Have every run of this process ask in so many waves: so small a table would go in one."""
    waves.Pace.wave_tokens = lambda self: self.total / count  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
