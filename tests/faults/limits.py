"""Campaign E: limits that are met, disks that fill, folders that cannot be written, a table dropped under way."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from jobs.run import run
from jobs.waves import Pace
from schemas.errors import BurnishError
from schemas.options import RunOptions
from tests.faults.ledger import Case, Seen
from tests.faults.rivals import at
from tests.faults.world import Stage, check, undisturbed_of

CAMPAIGN = "limits"
SEEDS = 3


def cases(spark: SparkSession, shared: Path) -> Iterator[Case]:
    """Every limit by a few seeds."""
    stage = Limits(spark, shared)
    plays = {
        "max-tokens": stage.tokens,
        "max-rows": stage.rows,
        "max-minutes": stage.minutes,
        "disk-full": stage.disk_full,
        "read-only-store": stage.read_only,
        "table-dropped": stage.dropped,
    }
    for fault, play in plays.items():
        for seed in range(SEEDS):
            yield Case(CAMPAIGN, fault, seed, play)


class Limits(Stage):
    """The campaign's plays."""

    def tokens(self, case: Case, folder: Path) -> Seen:
        """So many tokens and no more; the nights that follow do the rest."""
        with waves(8):
            return self._nights(case, folder, {"max_tokens": 1500})

    def rows(self, case: Case, folder: Path) -> Seen:
        """So many rows a night."""
        return self._nights(case, folder, {"max_rows": 20})

    def minutes(self, case: Case, folder: Path) -> Seen:
        """So many minutes, which are over at once."""
        return self._nights(case, folder, {"max_minutes": 0.0001}, most=1)

    def _nights(self, case: Case, folder: Path, limits: dict[str, Any], *, most: int = 30) -> Seen:
        seen, world = Seen(), self.world(folder, case.seed, limits=limits)
        undisturbed = undisturbed_of(self.world, self.shared / "undisturbed")(case.seed)
        before, spent = world.rows(), []
        for _ in range(most):
            asked = len(world.book.asked)
            result = world.run()
            spent.append(
                (len(world.book.asked) - asked, result.progress.prompt_tokens + result.progress.completion_tokens)
            )
            seen.check(result.exit_code == 0, f"a limit that is met ended with {result.exit_code}")
            if result.complete:
                break
        else:
            seen.check(most == 1, f"{most} nights were not enough: {spent}")
        if "max_tokens" in limits:
            # the last wave is sized by an estimate; never more than a wave beyond
            worst = max(tokens for _, tokens in spent)
            seen.check(worst <= 1.5 * limits["max_tokens"], f"{worst} tokens in one night")
        if "max_minutes" in limits:
            seen.check(spent[0][0] == 0, f"{spent[0][0]} questions after the time was over")
            world.file.write_text(world.file.read_text(encoding="utf-8").replace("0.0001", "60"), encoding="utf-8")
        began = time.monotonic()
        last = world.run()
        seen.resume_sec = time.monotonic() - began
        seen.twice = len(world.book.asked) - len(set(world.book.asked))
        check(seen, world, undisturbed, last.columns, before=before, faults=0)
        return seen

    def disk_full(self, case: Case, folder: Path) -> Seen:
        """The store's disk fills in the middle of the night; with more room the same command goes on."""
        with disk(folder / "store", kib=260 + 120 * case.seed) as grow, waves(10):
            return self._broken(case, folder, grow)

    def read_only(self, case: Case, folder: Path) -> Seen:
        """The store's disk becomes read-only in the middle of the night."""
        with disk(folder / "store", kib=64_000) as grow, waves(10), at("asking", lambda: grow("ro")):
            return self._broken(case, folder, grow)

    def _broken(self, case: Case, folder: Path, grow: Any) -> Seen:
        seen, world = Seen(), self.world(folder, case.seed, store=str(folder / "store" / "s"))
        undisturbed = undisturbed_of(self.world, self.shared / "undisturbed")(case.seed)
        before = world.rows()
        try:
            world.run()
            seen.faults = 0
        except BurnishError as problem:
            seen.check(problem.exit_code == 3, f"it ended with {problem.exit_code}: {problem}")
        except Exception as problem:  # noqa: BLE001 - told as the command tells it
            seen.escaped = 0 if _told_by_command(problem) else 1
            seen.check(not seen.escaped, f"{type(problem).__name__} escaped")
        rows = world.rows()
        untouched = all(rows[key] == before[key] for key in before) if seen.faults else True
        seen.check(untouched, "the table was touched by a run that failed")
        grow("rw,size=64m")
        asked = len(world.book.asked)
        began = time.monotonic()
        result = world.run()
        seen.resume_sec = time.monotonic() - began
        seen.twice = len(world.book.asked) - len(set(world.book.asked))
        seen.bound = asked
        check(seen, world, undisturbed, result.columns, before=before, faults=1)
        return seen

    def dropped(self, case: Case, folder: Path) -> Seen:
        """The table is dropped while questions are asked: a clear end, and the answers stay."""
        seen, world = Seen(), self.world(folder, case.seed)
        with at("asking", lambda: shutil.rmtree(str(world.place.path))):
            try:
                run(self.spark, world.job, options=RunOptions())
                seen.check(False, "a run into a dropped table ended well")
            except BurnishError as problem:
                seen.check(problem.exit_code in (3, 4), f"it ended with {problem.exit_code}: {problem}")
            except Exception as problem:  # noqa: BLE001 - told as the command tells it
                seen.escaped = 0 if _told_by_command(problem) else 1
                seen.check(not seen.escaped, f"{type(problem).__name__} escaped")
        return seen


def _told_by_command(problem: Exception) -> bool:
    """Whether the command makes one sentence with a hint of it, instead of naming a defect of its own."""
    from jobs.cli import _told

    return _told(problem).exit_code in (3, 4)


@contextmanager
def waves(count: int) -> Iterator[None]:
    """Cut so small a table's questions into several waves."""
    plain = Pace.wave_tokens
    Pace.wave_tokens = lambda self: self.total / count  # type: ignore[method-assign]
    try:
        yield
    finally:
        Pace.wave_tokens = plain  # type: ignore[method-assign]


@contextmanager
def disk(folder: Path, *, kib: int) -> Iterator[Any]:
    """A disk of so many KiB; what is yielded remounts it with other options.

    Raises:
        RuntimeError: none can be made here.
    """
    folder.mkdir(parents=True)
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(folder)], check=False)
    if made.returncode:
        raise RuntimeError("no small disk can be mounted here; run this campaign as root")
    try:
        yield lambda options: subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)
