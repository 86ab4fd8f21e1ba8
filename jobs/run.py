"""Run: plan, ask, publish, report. This is the job that everything else stands round."""

import json
import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from types import FrameType
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs import cells as cells_
from jobs import lake, quiet
from jobs.asking import Cluster, spec_of
from jobs.estimate import estimates, totals
from jobs.gate import GateKeeper, GateShut
from jobs.leavers import count_leavers, delete_leavers
from jobs.machine import versions
from jobs.outcome import ColumnOutcome, Published, confirm
from jobs.plan import cached_share
from jobs.prepare import Prepared, first_guess, prepare, rate_of, refuse_reasking, to_ask
from jobs.progress import Reporter
from jobs.publish import Turn, publish
from jobs.result import DECIDED, RunResult
from jobs.store import on_record
from jobs.top_up import top_up
from jobs.waves import Asking, Bounds, Desk, Progress
from schemas.errors import Interrupted
from schemas.job import EnrichJob
from schemas.options import RunOptions
from schemas.secrets import without_secrets
from schemas.tables import BUCKETS, QUESTIONS, RUNS, STATUSES
from udfs.logs import facts, in_run
from udfs.processes import identity
from udfs.standing import app_name

QUESTIONS_PER_FILE = 500_000
ONE_WAVE_TOKENS = 3_000

log = logging.getLogger(__name__)


def run(spark: SparkSession, job: EnrichJob, *, options: RunOptions) -> RunResult:
    """Ask what is not answered yet and write the answers; the same command continues after any interruption.

    Raises:
        BurnishError: with the exit code that schedulers see; what was answered is kept.
    """
    night = Night.begin(spark, job, options)
    with in_run(night.run_id), interruptible(night), night.kept(), night.recorded():
        night.tell("run started", cells_to_ask=night.prepared.count(cells_.TO_ASK))
        if night.prepared.writes:
            if not options.publish_only:
                night.ask()
            night.publish()
        if night.deletes:
            delete_leavers(spark, night.prepared.cells.scope, night.prepared.store, run_id=night.run_id)
        night.drawn = tuple(top_up(spark, night.prepared))
        result = night.report()
        night.note_quiet(result)
        return result


@dataclass
class Night:
    """One run under way."""

    spark: SparkSession
    prepared: Prepared
    declared: EnrichJob
    run_id: str
    started: datetime
    began: float = field(default_factory=time.monotonic)
    progress: Progress = field(default_factory=lambda: Progress(0, 0))
    published: Published | None = None
    asking: Asking | None = None
    interrupted: int = 0
    gone: int = 0
    drawn: tuple[str, ...] = ()
    merges: int = 0

    @property
    def deletes(self) -> bool:
        """Whether rows that have left the source are to be deleted."""
        # what `--only` leaves out could not be put on record before it goes
        asked_for = self.prepared.job.on_source_delete == "delete" and not self.prepared.options.only
        return asked_for and self.gone > 0

    @property
    def writes(self) -> bool:
        """Whether the run has anything to ask or to write."""
        return self.prepared.writes or self.deletes

    @cached_property
    def keeper(self) -> GateKeeper:
        """Who looks at what is staged before it is written."""
        job, is_open = self.prepared.job, self.prepared.options.publish_only
        return GateKeeper(self.spark, job, self.prepared.cells, is_open=is_open)

    @classmethod
    def begin(cls, spark: SparkSession, job: EnrichJob, options: RunOptions) -> "Night":
        """Check everything that can be checked before an engine starts."""
        started, began = datetime.now(UTC), time.monotonic()
        prepared = prepare(spark, job, options=options, looks=True, keeps=True)
        try:
            refuse_reasking(spark, prepared)
            gone = 0 if prepared.is_known else count_leavers(spark, prepared.cells.scope)
        except BaseException:
            prepared.release()
            raise
        run_id = f"{started:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
        return cls(spark, prepared, job, run_id, started, began, gone=gone)

    def ask(self) -> None:
        """Write the questions, pack them into waves, have them answered."""
        prepared, job = self.prepared, self.prepared.job
        if not prepared.count(cells_.TO_ASK):
            return
        questions, tokens = self._write_questions()
        self.progress = Progress(questions, tokens)
        if not questions:
            return
        spec = spec_of(self.spark, prepared.cells.scope.job, prepared.model, run_id=self.run_id)
        cluster = Cluster(self.spark, job.engine)
        desk = Desk(self.spark, prepared.store, spec, cluster, job.target_place.text)
        minutes = job.limits.max_minutes
        deadline = None if minutes is None else self.began + minutes * 60
        bounds = Bounds(deadline, job.limits.max_tokens, self._most_failed(questions))
        # so few are one wave at any speed: nothing to look up
        is_short = tokens <= ONE_WAVE_TOKENS
        rate = first_guess(cluster) if is_short else rate_of(self.spark, prepared, cluster)[0]
        self.asking = Asking(desk, self.progress, rate=rate, bounds=bounds)
        with Reporter(self.progress, cached_share=cached_share(prepared, questions)) as reporter:
            self.asking.run(every=lambda: self._tick(reporter))

    def _most_failed(self, questions: int) -> float:
        """How many of tonight's questions may fail before it is sure enough that the run will end with exit 1.

        A failed question counts for as many cells as a question has on average. Cells that failed on earlier nights
        count too, but do not end a night of which few fail.
        """
        limit, to_ask = self.prepared.job.limits.max_failed_share, self.prepared.count("ask")
        done = {status: self.prepared.count(f"done:{status}") for status in DECIDED}
        allowed_cells = limit * (to_ask + sum(done.values())) - done["failed"]
        return max(limit * questions, allowed_cells * questions / max(1, to_ask))

    def _tick(self, reporter: Reporter) -> None:
        reporter.show()
        self.check_interrupt()
        every = self.prepared.options.publish_every_min
        # a drift may show only once more answers are there: until then nothing may have been written
        stops = any(rule.thresholds and rule.stops_on_drift for rule in self.prepared.cells.rules.values())
        if (
            every is not None
            and not stops
            and time.monotonic() - self._last_publish >= every * 60
            and self.progress.waves
        ):
            self.publish(interim=True)

    _last_publish: float = field(default_factory=time.monotonic)

    def _write_questions(self) -> tuple[int, int]:
        """Write tonight's questions once, so that no wave scans the source again; return their number and tokens."""
        prepared, store = self.prepared, self.prepared.store
        rows = to_ask(self.spark, prepared).withColumn("run_id", F.lit(self.run_id))
        # Drawn anew for every run: after one that was cut short, the questions left would all lie in the last buckets,
        # and the first waves be empty.
        bucket = F.pmod(F.xxhash64("question_id", "run_id"), F.lit(BUCKETS)).cast("int")
        rows = rows.withColumn("bucket", bucket).select(*QUESTIONS)
        files = max(1, min(200, prepared.count("ask") // QUESTIONS_PER_FILE))
        store.append(rows.repartitionByRange(files, "bucket").sortWithinPartitions("bucket"), "questions")
        mine = store.read(self.spark, "questions").where(F.col("run_id") == self.run_id)
        counted = totals(mine)
        if not counted:
            return 0, 0
        found = estimates(prepared, mine, counted)
        tokens = sum(found[name].tokens(*counts) for name, counts in counted.items())
        return sum(count for count, _ in counted.values()), tokens

    def publish(self, *, interim: bool = False) -> None:
        """Write what is answered so far into the target."""
        self.check_interrupt()
        prepared, follows = self.prepared, self.published is not None and self.published.writes
        turn = Turn(
            self.run_id,
            interim=interim,
            follows=follows,
            cells=prepared.to_do,
            is_small=prepared.is_small,
            check=self.keeper.check,
        )
        try:
            found = publish(self.spark, self.prepared.cells, prepared.store, turn=turn)
        except GateShut as shut:
            cells = self.keeper.held(shut)
            self.prepared = replace(prepared, cells=cells)
            found = publish(self.spark, cells, prepared.store, turn=replace(turn, check=None))
        self.merges += found.writes
        if self.published is None:
            self.published = found
        else:
            self.published.add(found)
        self._last_publish = time.monotonic()
        changed = {name: column.changed for name, column in found.columns.items()}
        self.tell("published", interim=interim, cells_changed=changed)

    def check_interrupt(self) -> None:
        """Stop where a signal arrived.

        Raises:
            Interrupted: Ctrl-C or SIGTERM came.
        """
        if self.interrupted:
            problem = Interrupted("stopped by a signal; nothing half was published", hint="the same command continues")
            problem.exit_code = 128 + self.interrupted
            raise problem

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Forget at the end, whatever the end, the rows that were kept in memory."""
        try:
            yield
        finally:
            self.prepared.release()

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Leave a row in `runs` at the start and at the end, whatever the end."""
        if not self.writes:
            yield
            return
        self._record("running", None)
        state = "failed"
        try:
            yield
            state = "done"
        except Interrupted:
            state = "interrupted"
            raise
        finally:
            if state != "done":
                self.tell("run ended", state=state)
                self._record_end(state)

    def _record_end(self, state: str) -> None:
        """Record an end that was none: what broke the run may break this too, and must not be hidden by it."""
        try:
            self._record(state, None)
        except Exception as problem:  # noqa: BLE001 - the run's own error is on its way
            # only its class: a message may hold cells
            log.warning("the end of run %s could not be put on record (%s)", self.run_id, type(problem).__name__)

    def _record(self, state: str, report: dict[str, Any] | None) -> None:
        job = self.prepared.job
        has_ended = state != "running"
        there = has_ended and lake.exists(self.spark, job.target_place)
        row = {
            "run_id": self.run_id,
            "job": on_record(self.declared),
            "target": job.target_place.text,
            "started_at": self.started,
            "ended_at": datetime.now(UTC) if has_ended else None,
            "state": state,
            "complete": None if report is None else report["complete"],
            "source_version": self.prepared.cells.scope.version,
            "target_version": lake.latest_version(self.spark, job.target_place) if there else None,
            "report": json.dumps(without_secrets({**(report or {}), **self._driver()}), ensure_ascii=False),
        }
        self.prepared.store.append(lake.rows_of(self.spark, [row], RUNS), "runs")

    def _driver(self) -> dict[str, Any]:
        """What tells `burnish status` whether the run still lives and which replicas are its own, and what ran."""
        host, process = socket.gethostname(), identity(os.getpid())
        app = app_name(self.spark.sparkContext.applicationId)
        return {"driver": {"host": host, "process": process}, "app": app, "versions": versions()}

    def note_quiet(self, result: RunResult) -> None:
        """Spare the next night the look at every row, where this one left nothing to do."""
        prepared, scope = self.prepared, self.prepared.cells.scope
        if self.gone or prepared.is_known or prepared.rows < quiet.LEAST_ROWS:
            return
        states = prepared.states
        if self.writes:
            # what failed tonight may be asked again, what a gate holds back is judged anew
            is_left = self.published is None or self.published.failed or self.keeper.holds or not result.complete
            if is_left or not self.merges:
                return
            statuses = {name: column["statuses"] for name, column in result.columns.items()}
            states = {name: {f"done:{one}": n for one, n in mine.items() if n} for name, mine in statuses.items()}
        known = (scope, prepared.cells.fingerprints, prepared.options, prepared.store)
        try:
            quiet.note(self.spark, *known, states=states, began=self.started, merges=self.merges)
        except Exception as problem:  # noqa: BLE001 - a night that is done must not fail for what spares the next one
            log.warning("run %s could not be noted as quiet (%s)", self.run_id, type(problem).__name__)

    def report(self) -> RunResult:
        """Count every cell of the run and put the result on record."""
        if self.published is not None and self.published.writes:
            confirm(self.spark, self.published, self.prepared.cells, run_id=self.run_id)
        columns = {task.name: self._column(task.name) for task in self.prepared.tasks}
        seconds = time.monotonic() - self.began
        result = RunResult(
            self.prepared,
            self.run_id,
            columns,
            self.progress,
            seconds,
            gone=self.gone,
            keeper=self.keeper,
            drawn=self.drawn,
            replicas=Cluster(self.spark, self.prepared.job.engine).replicas,
        )
        if self.writes:
            self._record("done", result.as_dict())
        told = result.as_dict()
        figures = ("complete", "questions", "answered", "failed", "rows_per_sec", "tokens_per_sec", "seconds")
        self.tell("run ended", state="done", **{name: told[name] for name in figures})
        return result

    def tell(self, message: str, **known: Any) -> None:
        """Write a log line about this run; a person at a terminal gets the result instead."""
        log.info(message, extra=facts(target=self.prepared.job.target_place.text, **known))

    def _column(self, name: str) -> dict[str, Any]:
        """Return one column's statuses, which sum to the rows in scope, and what else is known of it."""
        outcome = self.published.columns[name] if self.published is not None else ColumnOutcome()
        statuses = dict.fromkeys(STATUSES, 0) | outcome.statuses
        for state, count in self.prepared.states[name].items():
            if state.startswith("done:"):
                statuses[state.removeprefix("done:")] += count
        statuses["pending"] += self.prepared.rows - sum(statuses.values())
        return {
            "statuses": statuses,
            "changed": outcome.changed,
            "promised": outcome.promised,
            "carried": outcome.carried,
            "from_reference": outcome.references,
            "from_people": outcome.people,
            "changed_under_way": outcome.lost,
            "not_scored": outcome.unscored,
            "not_scored_share": round(outcome.not_scored_share, 6),
            "confidence_bins": outcome.bins,
        }


@contextmanager
def interruptible(night: Night) -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into a clean stop, where this thread may set handlers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(signum: int, frame: FrameType | None) -> None:
        night.interrupted = signum
        if night.asking is not None:
            night.asking.stopping.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
