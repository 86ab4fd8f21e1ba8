"""Campaign B: on a cluster of two executors, what answers questions is killed, hangs or talks nonsense.

The driver is a process of its own, one for all cases that go well; this one watches what is asked and strikes. With
`real` the engine is vLLM over the embedded model, else the scripted one, which counts what it is asked.
"""

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from tests.faults.ledger import Case, Seen
from tests.faults.serve import REPORT, Driver, driver_in
from tests.faults.world import PATIENCE_SEC, TASKS, Rows, Stage, World, check, undisturbed_of
from tests.scripted_engine import Book
from udfs.processes import PROC
from udfs.standing import app_name, replicas_here
from udfs.standing import root as replicas
from udfs.tokens import load_tokens

CAMPAIGN = "executors"
MASTER = "local-cluster[2,1,1024]"
WAVES = 6
LIMIT_SEC = 900.0
KILLED = ("executor", "python-worker", "watchdog", "engine")
REAL_KILLED = ("executor", "python-worker", "watchdog", "engine-core")
MANNERS = {"hang": "stopped", "cut-reply": "cut", "garbage": "garbage", "500": "500", "slow-first-byte": "slow"}
POISON = " bane"
LAST_DIGITS = 1e-3  # vLLM's numbers move by less with what a batch holds
ALL = {**dict.fromkeys(KILLED, 20), **dict.fromkeys(MANNERS, 10), "second-fault": 10}


def cases(spark: SparkSession, shared: Path) -> Iterator[Case]:
    """All of them."""
    stage = Cluster(spark, shared)
    for fault, count in ALL.items():
        for seed in range(count):
            yield Case(CAMPAIGN, fault, seed, stage.strike)
    for rows in (1, 3, 10):
        for seed in range(5):
            yield Case(CAMPAIGN, f"{rows}-poison-rows", seed, stage.poison)
    for fault in REAL_KILLED:
        for seed in range(3):
            yield Case(CAMPAIGN, f"real-{fault}", seed, stage.strike_real)


class Cluster(Stage):
    """The campaign's plays."""

    def strike(self, case: Case, folder: Path) -> Seen:
        """Let the fault happen once some questions were asked; the same run must end as if nothing had."""
        rng, seen = Random(case.name), Seen()
        after = rng.randint(4, 30)
        manner = [(after, MANNERS[case.fault])] if case.fault in MANNERS else []
        world = self.world(folder, case.seed, faults=manner, answer_sec=0.05)
        undisturbed = undisturbed_of(self.world, self.shared / "undisturbed")(case.seed)
        before = world.rows()
        seen.faults = 2 if case.fault == "second-fault" else 1
        strikes: list[Callable[[Run], None]] = []
        if case.fault in KILLED:
            strikes = [lambda run: kill(run, case.fault, rng)]
        elif case.fault == "second-fault":
            strikes = [lambda run: kill(run, "engine", rng), lambda run: _again(run, rng)]
        with self.run_of(world) as run:
            run.strike(strikes, after=after)
            report = run.ended(seen)
        return self.judged(seen, world, undisturbed, before, report)

    def poison(self, case: Case, folder: Path) -> Seen:
        """Rows that kill the engine each time they are asked: they fail, and take no neighbour along."""
        count, seen = int(case.fault.split("-")[0]), Seen(faults=int(case.fault.split("-")[0]))
        model = self.world(self.shared / f"poison-{case.name.replace('/', '-')}", case.seed, rows=1)
        poison = load_tokens(str(model.job.model.path)).encode_cell(POISON)
        words = {"poison": poison, "limits": {"max_failed_share": 1.0}, "columns": [TASKS[0]]}
        world = self.world(folder, case.seed, **words)
        # beside what stands there: their neighbours are the same rows as in the undisturbed world
        first = max(world.rows()) + 1
        frame = self.spark.createDataFrame(
            [(first + at, f"poison{POISON} {at}") for at in range(count)], "id long, text string"
        )
        frame.write.format("delta").mode("append").save(str(world.place.path))
        undisturbed = undisturbed_of(self.alone, self.shared / "alone")(case.seed)
        before = world.rows()
        with self.run_of(world) as run:
            report = run.ended(seen)
        rows = world.rows()
        bad = [key for key in rows if key >= first]
        told = {key: (rows[key]["topic_error"], rows[key]["topic_meta"]["status"]) for key in bad}
        seen.check(set(told.values()) == {("engine_fatal", "failed")}, f"poison rows ended as {told}")
        expected = {**undisturbed, **{key: rows[key] for key in bad}}
        # a row that kills engines is asked again on purpose, until it stands alone
        return self.judged(seen, world, expected, before, report, names=("topic",), times=1_000)

    def alone(self, folder: Path, seed: int) -> World:
        """A seed's world with the first task alone."""
        return self.world(folder, seed, columns=[TASKS[0]])

    def strike_real(self, case: Case, folder: Path) -> Seen:
        """The same with vLLM itself; what it was asked is not counted."""
        rng, seen = Random(case.name), Seen()
        undisturbed = undisturbed_of(self.real, self.shared / "real")(0)
        world = self.real(folder, 0)
        before = world.rows()
        fault = case.fault.removeprefix("real-")
        with self.run_of(world) as run:
            run.strike(
                [lambda one: kill(one, fault, rng)], when=lambda: bool(engines(run.child.pid)), delay=rng.uniform(0, 8)
            )
            report = run.ended(seen)
        return self.judged(seen, world, undisturbed, before, report, within=LAST_DIGITS)

    def real(self, folder: Path, seed: int) -> World:
        """A world of which the embedded model is asked, with engines that fit beside each other on a small machine."""
        return self.world(
            folder,
            seed,
            model="smollm2-untuned",
            engine={"kv_cache_gib": 1, "max_model_len": 512, "keep_warm_min": 0.0},
        )

    def run_of(self, world: World) -> "Run":
        """A run of the world's job by the driver of all cases."""
        return Run(world, driver_in(self.shared / "cluster", MASTER, WAVES))

    def judged(
        self,
        seen: Seen,
        world: World,
        undisturbed: Rows,
        before: Rows,
        report: dict[str, Any],
        **words: Any,
    ) -> Seen:
        """Hold the end to the invariants."""
        if not report:
            return seen
        seen.left = len(_outlived(app_name(report["app"])))
        seen.check(seen.left == 0, f"{seen.left} processes of replicas outlived the run by a minute")
        times = words.pop("times", seen.faults)
        asked = Counter(world.book.asked)
        seen.twice = sum(count > 1 for count in asked.values())
        seen.bound = _two_largest_waves(world) * seen.faults
        if times == seen.faults:
            seen.check(seen.twice <= seen.bound, f"{seen.twice} questions asked again, {seen.bound} may be")
        check(seen, world, undisturbed, report["columns"], before=before, faults=times, **words)
        return seen


def _two_largest_waves(world: World) -> int:
    """How many questions were under way at most: two lanes have a wave each."""
    answers = world.store.read(world.spark, "answers").groupBy("lane_version").agg(F.count("*").alias("n"))
    return sum(sorted((row["n"] for row in answers.collect()), reverse=True)[:2])


def _outlived(app: str) -> list[int]:
    """The processes of an application's replicas that are still there a minute after its run."""
    deadline = time.monotonic() + PATIENCE_SEC
    while True:
        left = [pid for one in replicas_here() if one.app == app for pid in one.processes]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.5)


def _again(run: "Run", rng: Random) -> None:
    """Strike while the replica recovers from the first strike."""
    starts = len(run.world.book.starts)
    deadline = time.monotonic() + 60
    while len(run.world.book.starts) == starts and time.monotonic() < deadline:
        time.sleep(0.02)
    kill(run, rng.choice(("engine", "watchdog", "executor", "python-worker")), rng)


class Run:
    """One run of a driver, and a thread that strikes."""

    def __init__(self, world: World, driver: Driver) -> None:
        """Start nothing yet."""
        self.world, self.driver, self.child = world, driver, driver.child
        self.report = world.file.with_name(REPORT)
        self.problem = ""
        self.hit: list[int] = []

    def __enter__(self) -> "Run":
        """Start the run."""
        self.driver.run(self.world.file)
        return self

    def __exit__(self, *problem: object) -> None:
        """Keep no driver that is not through."""
        if not self.report.exists():
            self.driver.end()

    def is_over(self) -> bool:
        """Whether there is nothing left to strike at."""
        return self.report.exists() or not self.driver.lives()

    def strike(
        self,
        strikes: list[Callable[["Run"], None]],
        *,
        after: int = 0,
        when: Callable[[], bool] = lambda: True,
        delay: float = 0.0,
    ) -> None:
        """Have strikes follow one another once so many prompts were asked."""

        def wait_and_strike() -> None:
            while (len(self.world.book.asked) < after or not when()) and not self.is_over():
                time.sleep(0.02)
            time.sleep(delay)
            for one in strikes:
                one(self)

        self.striker = threading.Thread(target=wait_and_strike, daemon=True)
        self.striker.start()

    def ended(self, seen: Seen) -> dict[str, Any]:
        """Wait for the run's end; return its report, or nothing where it failed."""
        deadline = time.monotonic() + LIMIT_SEC
        while not self.is_over() and time.monotonic() < deadline:
            time.sleep(0.05)
        report = json.loads(self.report.read_text(encoding="utf-8")) if self.report.exists() else {}
        log = self.driver.log.read_text(encoding="utf-8", errors="replace")
        problem = report.pop("problem", None if report else f"no report, the log ends in {log[-800:]}")
        seen.check(problem is None, f"the run went wrong: {problem}")
        seen.check(not self.problem, self.problem)
        return {} if problem else dict(report)


def kill(run: Run, kind: str, rng: Random) -> None:
    """Kill one process of a kind, of those that the run's driver has started."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not run.is_over():
        found = sorted(FINDERS[kind](run))
        if found:
            pid = rng.choice(found)
            os.kill(pid, signal.SIGKILL)
            run.hit.append(pid)
            return
        time.sleep(0.02)
    run.problem = f"there was no {kind} to kill"


def family(root: int) -> list[tuple[int, str]]:
    """The descendants of a process, with their command lines; executors keep the driver's session."""
    parents: dict[int, list[int]] = {}
    commands: dict[int, str] = {}
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            commands[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found, open_ = [], [root]
    while open_:
        for pid in parents.get(open_.pop(), []):
            found.append((pid, commands[pid]))
            open_.append(pid)
    return found


def executors(root: int) -> list[int]:
    """The executors' JVMs."""
    return [pid for pid, command in family(root) if "CoarseGrainedExecutorBackend" in command and "java" in command]


def workers(root: int) -> list[int]:
    """The Python workers: forked by a daemon which has the same command line."""
    daemons = [pid for pid, command in family(root) if "pyspark.daemon" in command]
    return [pid for pid in daemons if not any(child in daemons for child, _ in family(pid))][:8]


def asking(root: int) -> list[int]:
    """The Python workers that have a file of a replica open: its lease. Others wait for work."""
    return [pid for pid in workers(root) if _holds_a_lease(pid)]


def _holds_a_lease(pid: int) -> bool:
    try:
        links = [file.readlink() for file in (PROC / str(pid) / "fd").iterdir()]
    except OSError:
        return False
    return any(link.is_relative_to(replicas()) for link in links)


def engines(root: int) -> list[int]:
    """vLLM's engine cores, which name themselves."""
    return [pid for pid, command in family(root) if "EngineCore" in command]


def _watchdogs(book: Book) -> list[int]:
    """Who watches over engines that live: their parents."""
    found = []
    for start in book.starts:
        try:
            found.append(int((PROC / str(start.pid) / "stat").read_text().rpartition(")")[2].split()[1]))
        except OSError:
            continue
    return [pid for pid in found if pid > 1]


FINDERS: dict[str, Callable[[Run], list[int]]] = {
    "executor": lambda run: executors(run.child.pid),
    "python-worker": lambda run: asking(run.child.pid),
    "watchdog": lambda run: (
        _watchdogs(run.world.book)
        or [pid for pid, command in family(run.child.pid) if "udfs.watchdog" in command or "watchdog.py" in command]
    ),
    "engine": lambda run: [start.pid for start in run.world.book.starts if (PROC / str(start.pid) / "stat").exists()],
    "engine-core": lambda run: engines(run.child.pid),
}
