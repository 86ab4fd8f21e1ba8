"""Campaign A: the driver is killed at each named point; the same command, given again, goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from pyspark.sql import SparkSession

from jobs.history import history
from tests.faults.drive import HOME, POINTS
from tests.faults.ledger import Case, Seen
from tests.faults.world import Rows, Stage, World, alive, check, undisturbed_of

CAMPAIGN = "driver"
SEEDS = 5
WAVES = 6
LIMIT_SEC = 600.0
# whether a run that dies there has changed the table: its rows in the change log are the same either way
PUBLISHED = {"changes-logged": False, "merge-committed": True, "report-half-written": True, "between-runs": True}


def cases(spark: SparkSession, shared: Path) -> Iterator[Case]:
    """Every point by every seed."""
    stage = Driver(spark, shared)
    for point in POINTS:
        for seed in range(SEEDS):
            yield Case(CAMPAIGN, point, seed, stage.play)


class Driver(Stage):
    """The campaign's plays."""

    def world(self, folder: Path, seed: int, **words: Any) -> World:
        """A seed's world, whose engine takes its time."""
        return super().world(folder, seed, answer_sec=0.01, **words)

    def play(self, case: Case, folder: Path) -> Seen:
        """Kill a run at the case's point, then run again in this process."""
        rng, seen = Random(case.name), Seen()
        world = self.world(folder, case.seed)
        undisturbed = undisturbed_of(self.world, self.shared / "undisturbed")(case.seed)
        before = world.rows()
        facts = {
            "point": case.fault,
            "turn": rng.randint(1, 4) if case.fault.startswith("wave-") else 1,
            "delay": rng.uniform(0.05, 1.5),
            "group": case.seed % 2 == 0,
            "waves": WAVES,
        }
        code, told = driven(world, facts)
        seen.check(code == -signal.SIGKILL, f"the driver was not killed at {case.fault}: it ended with {code}: {told}")
        went_on(seen, world, undisturbed, before)
        if case.fault in PUBLISHED:
            killed = history(self.spark, world.job).runs[-1]
            told = f"history says published: {killed['published']} of a run killed at {case.fault}"
            seen.check(killed["published"] == PUBLISHED[case.fault], told)
        return seen


def went_on(seen: Seen, world: World, undisturbed: Rows, before: Rows) -> Seen:
    """Run the same job again after its driver died, and hold the end to the invariants."""
    # what the dead driver left behind ends by itself, and commits nothing any more
    seen.left = alive(world.book)
    seen.check(seen.left == 0, f"{seen.left} engines outlived their driver by a minute")
    asked = world.book.asked
    kept = len(world.answered())
    began = time.monotonic()
    result = world.run()
    seen.resume_sec = time.monotonic() - began
    again = world.book.asked[len(asked) :]
    whole = len(set(world.book.asked))
    seen.twice = len(set(asked) & set(again))
    # what was asked and not committed is asked again, and nothing else is
    seen.bound = len(set(asked)) - kept
    seen.check(seen.twice <= seen.bound, f"{seen.twice} questions asked again, {seen.bound} may be")
    seen.check(len(again) == whole - kept, f"{len(again)} asked, {whole - kept} were not answered")
    check(seen, world, undisturbed, result.columns, before=before, faults=1)
    asked_before = len(world.book.asked)
    third = world.run()
    seen.check(len(world.book.asked) == asked_before, "a run after the one that went on asked something")
    seen.check(third.complete, "a run after the one that went on is not complete")
    return seen


def driven(world: World, facts: dict[str, Any]) -> tuple[int, str]:
    """Run the world's job in a process group of its own; return its exit code and what it said last."""
    file = world.folder / "facts.json"
    file.write_text(json.dumps(facts), encoding="utf-8")
    log = world.folder / "driver.log"
    with log.open("w") as out:
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.drive", str(world.file), str(file)],
            env={**os.environ, "PYTHONPATH": str(HOME)},
            cwd=world.folder,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
        try:
            code = child.wait(LIMIT_SEC)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            code = child.wait()
    _await_group(child.pid)
    return code, log.read_text(encoding="utf-8", errors="replace")[-800:]


def _await_group(group: int) -> None:
    """Wait for the JVM: without its Python half it ends by itself, and what it still commits counts as done."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
