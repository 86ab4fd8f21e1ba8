"""Campaign C: others write the table while a run is under way, waves are replayed, versions restored, layouts differ.

A rival acts at one of five moments of a run, in the same driver. What it wrote must stand, no old answer may lie over
it, and one more run must bring every row to what a table of that content would have had without a rival.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs import lake, publish
from jobs.run import run
from jobs.waves import Asking
from schemas.errors import ConflictError
from schemas.options import RunOptions
from tests.faults.ledger import Case, Seen
from tests.faults.world import DDL, TASKS, UNTOUCHED, Rows, Stage, World, as_told, check, undisturbed_of

CAMPAIGN = "delta"
NEW_ROW, LOST_ROW, MOVED_ROWS, OTHER_ROW = 1000, 5, (7, 8), 9
NAMES = ("topic", "city")
RIVALS: dict[str, str] = {
    "append": f"INSERT INTO {{t}} (id, text, city) VALUES ({NEW_ROW}, 'a new refund', 'ROME')",
    "update-same-rows": f"UPDATE {{t}} SET text = 'changed under way' WHERE id IN {MOVED_ROWS}",
    "update-another-column": f"UPDATE {{t}} SET note = 'seen' WHERE id = {OTHER_ROW}",
    "delete": f"DELETE FROM {{t}} WHERE id = {LOST_ROW}",
    "optimize": "OPTIMIZE {t}",
    "add-column": "ALTER TABLE {t} ADD COLUMNS (extra string)",
    "vacuum-dry-run": "VACUUM {t} RETAIN 168 HOURS DRY RUN",
}
TWICE = "the-same-job"
MOMENTS = ("asking", "staged", "logged", "merging", "merged")
LAYOUTS: dict[str, tuple[str, str]] = {
    "plain": ("", ""),
    "partitioned": ("PARTITIONED BY (part)", ""),
    "clustered": ("CLUSTER BY (id)", ""),
    "deletion-vectors": ("", "'delta.enableDeletionVectors' = 'true'"),
    "row-tracking": ("", "'delta.enableRowTracking' = 'true'"),
    "column-mapping": ("", "'delta.columnMapping.mode' = 'name'"),
    "change-feed": ("", "'delta.enableChangeDataFeed' = 'true'"),
}


def cases(spark: SparkSession, shared: Path) -> Iterator[Case]:
    """Rivals by moments, replays, a restored version, layouts by tasks."""
    stage = Rivals(spark, shared)
    for rival in (*RIVALS, TWICE):
        for moment in range(len(MOMENTS)):
            yield Case(CAMPAIGN, rival, moment, stage.rival)
    for seed in range(3):
        yield Case(CAMPAIGN, "replayed-waves", seed, stage.replay)
        yield Case(CAMPAIGN, "restored-version", seed, stage.restore)
    for layout in LAYOUTS:
        for task in range(len(TASKS)):
            yield Case(CAMPAIGN, f"layout-{layout}", task, stage.layout)


class Rivals(Stage):
    """The campaign's plays."""

    def sql(self, world: World, text: str) -> None:
        """Run a statement in which {t} is the world's table."""
        self.spark.sql(text.format(t=lake.sql_name(world.place))).collect()

    def rival(self, case: Case, folder: Path) -> Seen:
        """Let a rival act at a moment of the first run, then run once more."""
        seen, world, moment = Seen(), self.world(folder, 0), MOMENTS[case.seed]
        before, refused = world.rows(), []

        def act() -> None:
            if case.fault != TWICE:
                self.sql(world, RIVALS[case.fault])
                return
            try:
                run(self.spark, world.job, options=RunOptions())
            except ConflictError as problem:
                refused.append(problem)

        with at(moment, act):
            try:
                world.run()
            except ConflictError as problem:
                refused.append(problem)
        seen.check(len(refused) < 2, "both of two runs were refused")
        written = world.rows()
        self._stands(seen, case, written)
        began = time.monotonic()
        last = world.run()
        seen.resume_sec = time.monotonic() - began
        seen.check(last.complete, "the run after the rival's is not complete")
        expected = self._expected(case.fault)
        found = world.rows()
        seen.rows = len(found)
        odd = [key for key in expected if key not in found or _told(found[key]) != expected[key]]
        seen.lost = len(odd)
        seen.check(not odd, f"rows {odd[:5]} ended as {[_told(found[key]) for key in odd[:2] if key in found]}")
        seen.check(found.keys() == expected.keys(), f"rows differ: {sorted(found.keys() ^ expected.keys())}")
        same = [key for key in before.keys() & found.keys() if key not in (*MOVED_ROWS, OTHER_ROW)]
        moved = [key for key in same if any(found[key][name] != before[key][name] for name in UNTOUCHED)]
        seen.check(not moved, f"untouched columns changed in rows {moved[:5]}")
        asked = len(world.book.asked)
        seen.twice, seen.bound = (
            asked - len(set(world.book.asked)),
            len(set(world.book.asked)) if case.fault == TWICE else 0,
        )
        seen.check(seen.twice <= seen.bound, f"{seen.twice} questions were asked twice")
        world.run()
        seen.check(len(world.book.asked) == asked, "a third run asked something")
        return seen

    def _stands(self, seen: Seen, case: Case, rows: Rows) -> None:
        """What the rival wrote stands when the run under way has ended."""
        if case.fault == "append":
            seen.check(NEW_ROW in rows, "the appended row is gone")
        elif case.fault == "delete":
            seen.check(LOST_ROW not in rows, "the deleted row is back")
        elif case.fault == "update-same-rows":
            seen.check(all(rows[key]["text"] == "changed under way" for key in MOVED_ROWS), "the update is gone")
            # an answer to the old text may stand only where it was published before the text changed
            stale = [rows[key]["topic_meta"] for key in MOVED_ROWS if "topic_meta" in rows[key]]
            published = MOMENTS[case.seed] == "merged"
            seen.check(published or all(meta is None for meta in stale), "an answer to the old text was published")
        elif case.fault == "update-another-column":
            seen.check(rows[OTHER_ROW]["note"] == "seen", "the update is gone")
        elif case.fault == "add-column":
            seen.check("extra" in rows[0], "the added column is gone")

    def _expected(self, rival: str) -> dict[int, list[Any]]:
        """By key: how a row's cells end over a table that was what it is now from the start."""
        folder = self.shared / "as-if" / rival
        rows = undisturbed_of(lambda at, seed: self._as_if(at, rival), folder)(0)
        return {number: _told(row) for number, row in rows.items()}

    def _as_if(self, folder: Path, rival: str) -> World:
        """A world in which the rival wrote before anything was asked."""
        world = self.world(folder, 0)
        if rival in RIVALS:
            self.sql(world, RIVALS[rival])
        return world

    def replay(self, case: Case, folder: Path) -> Seen:
        """A wave written again under its own transaction is taken for done: no commit, no row."""
        seen, world = Seen(faults=0), self.world(folder, case.seed)
        undisturbed = undisturbed_of(self.world, self.shared / "undisturbed")(case.seed)
        before = world.rows()
        result = world.run()
        answers = world.store.place("answers")
        version = lake.latest_version(self.spark, answers)
        waves = world.store.read(self.spark, "answers").select("lane", "lane_version").distinct().collect()
        detail = self.spark.sql(f"DESCRIBE HISTORY {lake.sql_name(answers)}").count()
        for wave in waves:
            mine = lake.read(self.spark, answers).where(
                (F.col("lane") == wave["lane"]) & (F.col("lane_version") == wave["lane_version"])
            )
            transaction = {"txnAppId": _transactions(world, wave["lane"]), "txnVersion": str(wave["lane_version"])}
            for _ in range(2):
                lake.append(mine, answers, options=transaction)
                seen.faults += 1
        seen.check(lake.latest_version(self.spark, answers) == version, "a replayed wave was committed again")
        seen.check(self.spark.sql(f"DESCRIBE HISTORY {lake.sql_name(answers)}").count() == detail, "history grew")
        check(seen, world, undisturbed, result.columns, before=before, faults=0)
        return seen

    def restore(self, case: Case, folder: Path) -> Seen:
        """The table is set back to before the run: running again asks nothing, and ends the same."""
        seen, world = Seen(), self.world(folder, case.seed)
        undisturbed = undisturbed_of(self.world, self.shared / "undisturbed")(case.seed)
        before = world.rows()
        world.run()
        asked = len(world.book.asked)
        self.sql(world, "RESTORE TABLE {t} TO VERSION AS OF 0")
        began = time.monotonic()
        result = world.run()
        seen.resume_sec = time.monotonic() - began
        seen.twice = len(world.book.asked) - asked
        seen.check(seen.twice == 0, f"{seen.twice} questions were asked again")
        check(seen, world, undisturbed, result.columns, before=before, faults=0)
        return seen

    def layout(self, case: Case, folder: Path) -> Seen:
        """A table of another layout: run, change a row and add one, run again, run a third time."""
        clause, properties = LAYOUTS[case.fault.removeprefix("layout-")]
        task = TASKS[case.seed]
        seen, world = Seen(faults=0), self.world(folder, 0, columns=[task])
        name, plain = task["name"], folder / "plain"
        Path(str(world.place.path)).rename(plain)
        listed = f"TBLPROPERTIES ({properties})" if properties else ""
        self.spark.sql(f"CREATE TABLE {lake.sql_name(world.place)} ({DDL}, part int) USING delta {clause} {listed}")
        frame = self.spark.read.format("delta").load(str(plain)).withColumn("part", (F.col("id") % 3).cast("int"))
        frame.write.format("delta").mode("append").save(str(world.place.path))
        alone = undisturbed_of(lambda at, seed: self.world(at, seed, columns=[task]), self.shared / f"one-{name}")(0)
        before = world.rows()
        result = world.run()
        check(seen, world, alone, result.columns, before=before, faults=0, names=(name,))
        asked = len(world.book.asked)
        self.sql(world, "UPDATE {t} SET text = 'something else', city = 'LISBON' WHERE id = 3")
        self.sql(world, f"INSERT INTO {{t}} (id, text, city, part) VALUES ({NEW_ROW}, 'something new', 'PORTO', 1)")
        second = world.run()
        # what somebody wrote into a cleaned cell is theirs
        kept = name == "city"
        expected = asked + (1 if kept else 2)
        seen.check(len(world.book.asked) == expected, f"{len(world.book.asked) - asked} questions for two rows")
        seen.check(not kept or world.rows()[3]["city"] == "LISBON", "an edit by hand was written over")
        seen.check(second.complete, "the second run is not complete")
        third = world.run()
        seen.check(len(world.book.asked) == expected, "the third run asked something")
        seen.check(all(one["changed"] == 0 for one in third.columns.values()), "the third run changed something")
        return seen


def _told(row: dict[str, Any]) -> list[Any]:
    return as_told(row, NAMES)


def _transactions(world: World, lane: int) -> str:
    """Delta's name of a lane's transactions, from the log itself."""
    folder = Path(str(world.store.place("answers").path)) / "_delta_log"
    for file in sorted(folder.glob("*.json")):
        for part in file.read_text(encoding="utf-8").split('"appId":"')[1:]:
            name = part.split('"')[0]
            if name.endswith(f"lane{lane}"):
                return name
    raise LookupError(f"no transaction of lane {lane}")


@contextmanager
def at(moment: str, act: Callable[[], None]) -> Iterator[None]:
    """Have something happen once, at a moment of whatever run comes first; the run's own code is what runs."""
    lock, done = threading.Lock(), threading.Event()

    def once() -> None:
        with lock:
            first = not done.is_set()
            done.set()
        if first:
            act()

    holder: Any
    holder, name = {
        "asking": (Asking, "run"),
        "staged": (publish, "stage"),
        "logged": (publish, "log_changes"),
        "merging": (publish, "merge"),
        "merged": (publish, "merge"),
    }[moment]
    plain = getattr(holder, name)

    def wrapped(*args: Any, **words: Any) -> Any:
        if moment == "merging":
            # beside the MERGE, so that each may find the other's commit in its way
            beside = threading.Thread(target=once)
            beside.start()
            try:
                return plain(*args, **words)
            finally:
                beside.join()
        if moment == "asking":
            once()
        found = plain(*args, **words)
        once()
        return found

    setattr(holder, name, wrapped)
    try:
        yield
    finally:
        setattr(holder, name, plain)
