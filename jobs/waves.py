"""Ask the questions of a run in waves, each one transaction.

Two waves run at once, so that one's tail hides behind the next. What is done is decided only by which questions have
answers: a wave that was lost is simply asked again.
"""

import logging
import math
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass, field, fields

from py4j.protocol import Py4JJavaError
from pyspark import inheritable_thread_target
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs import lake
from jobs.asking import Cluster
from jobs.store import Store
from schemas.canonical import digest
from schemas.errors import BurnishError, ConflictError, EnvironmentProblem
from schemas.tables import BUCKETS
from udfs.ask import OUTPUT_DDL, AskSpec, Tally, asker
from udfs.logs import facts

LANES = 2
WAVE_SEC = 180.0
FIRST_WAVE_SEC = 60.0
MAX_WAVES = 400  # a run makes at most 500 commits, publishes included
ROWS_PER_PARTITION = 64
PARTITIONS_PER_SLOT = 2
log = logging.getLogger(__name__)

_PROBLEM = re.compile(r"EnvironmentProblem: (.+)")


@dataclass
class Progress:
    """What is answered so far; lanes add to it under a lock."""

    questions: int
    tokens: int
    answered: int = 0
    failed: int = 0
    waves: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    done_tokens: int = 0
    started: float = field(default_factory=time.monotonic)
    seen_rows: int = 0
    seen_tokens: int = 0
    ended: float | None = None
    stopped: str = ""

    @property
    def seconds(self) -> float:
        """Wall time of the ask phase so far."""
        return (self.ended or time.monotonic()) - self.started

    @property
    def done(self) -> int:
        """Questions whose outcome is committed."""
        return self.answered + self.failed

    @property
    def shown(self) -> int:
        """Questions that have an outcome, those of waves under way included; what is asked twice may count twice."""
        return max(self.done, min(self.questions, self.seen_rows))


@dataclass(frozen=True)
class Bounds:
    """Where asking stops by itself; `most_failed` is how many questions may fail before it does."""

    deadline: float | None = None
    max_tokens: int | None = None
    most_failed: float = math.inf


class Pace:
    """How many tokens the next wave should hold: about three minutes at the speed seen so far."""

    def __init__(self, *, total: int, rate: float) -> None:
        """Start from an expected rate, in tokens/s over all lanes."""
        self.total, self.rate, self.seen = total, rate, False

    def wave_tokens(self) -> float:
        """Return the size of the next wave; the first are short, since their rate is a guess."""
        seconds = WAVE_SEC if self.seen else FIRST_WAVE_SEC
        return max(self.rate * seconds / LANES, self.total / MAX_WAVES, 1.0)

    def took(self, tokens: int, seconds: float) -> None:
        """Learn from a wave; lanes run side by side, hence the factor."""
        if seconds > 0 and tokens:
            self.rate, self.seen = LANES * tokens / seconds, True


@dataclass(frozen=True)
class Desk:
    """Where a run asks: its session, its store, what executors are told, and the target it works for."""

    spark: SparkSession
    store: Store
    spec: AskSpec
    cluster: Cluster
    target: str

    @property
    def group(self) -> str:
        """Spark's job group of this run's waves."""
        return f"burnish-{self.spec.run_id}"

    def transactions_of(self, lane: int) -> str:
        """Delta's name for a lane's series of transactions, in which it takes a version that was used for done.

        Jobs may share a store and a target: what tells them apart is the columns that they write.
        """
        columns = digest(sorted(task.name for task in self.spec.tasks))
        return f"burnish/{self.target}/{columns[:16]}/lane{lane}"


class Asking:
    """One ask phase over the `questions` rows of a run."""

    def __init__(self, desk: Desk, progress: Progress, *, rate: float, bounds: Bounds) -> None:
        """Nothing is asked yet."""
        self.desk, self.progress, self.bounds = desk, progress, bounds
        self.pace = Pace(total=progress.tokens, rate=rate)
        self.lock = threading.Lock()
        self.next_bucket = 0
        self.next_version = _highest_version(desk) + 1
        self.claimed_tokens = 0.0
        self.stopping = threading.Event()
        context = desk.spark.sparkContext
        # one a lane, of which the waves follow one another: what a wave adds to it is that wave's
        self.tallies = [Tally(*(context.accumulator(0) for _ in fields(Tally))) for _ in range(LANES)]

    def run(self, *, every: Callable[[], None]) -> None:
        """Ask everything, calling `every` a few times a second from this thread.

        Raises:
            EnvironmentProblem: an engine did not start or could not be kept alive.
            ConflictError: another run of the same job committed in this one's place.
        """
        work = inheritable_thread_target(self.desk.spark)(self._lane)
        # lanes must not meet while they make it
        self.desk.store.create(self.desk.spark, "answers")
        self.progress.started = time.monotonic()
        with ThreadPoolExecutor(LANES, thread_name_prefix="lane") as pool:
            # a thread has a context of its own, without the run that log lines name
            lanes = {pool.submit(copy_context().run, work, lane) for lane in range(LANES)}
            try:
                while lanes:
                    done, lanes = wait(lanes, timeout=0.25, return_when=FIRST_EXCEPTION)
                    for lane in done:
                        lane.result()
                    self.progress.seen_rows = sum(tally.rows.value for tally in self.tallies)
                    self.progress.seen_tokens = sum(tally.tokens.value for tally in self.tallies)
                    every()
            except (PySparkException, Py4JJavaError) as problem:
                raise _translated(problem) from problem
            finally:
                self.progress.ended = time.monotonic()
                self._cancel(lanes)
        self._take_stock()

    def _cancel(self, lanes: set[Future[None]]) -> None:
        """Stop at once: the waves under way are cancelled and nothing of them is committed."""
        self.stopping.set()
        while lanes:
            # more than once: a lane that was still planning its wave had no job to cancel yet
            self.desk.spark.sparkContext.cancelJobGroup(self.desk.group)
            _, lanes = wait(lanes, timeout=0.25)

    def _lane(self, lane: int) -> None:
        context = self.desk.spark.sparkContext
        context.setJobGroup(self.desk.group, f"burnish asks, lane {lane}", interruptOnCancel=False)
        while (claim := self._claim()) is not None:
            self._wave(lane, claim)

    def _claim(self) -> "Wave | None":
        """Take the next range of buckets and a transaction version; None when nothing is left or a limit is met."""
        with self.lock:
            if self.next_bucket >= BUCKETS or self.stopping.is_set():
                return None
            if self.bounds.deadline is not None and time.monotonic() >= self.bounds.deadline:
                self.progress.stopped = "max_minutes"
                return None
            if sum(tally.failed.value for tally in self.tallies) > self.bounds.most_failed:
                self.progress.stopped = "max_failed_share"
                return None
            tokens = self.pace.wave_tokens()
            if self.bounds.max_tokens is not None:
                tokens = min(tokens, self.bounds.max_tokens - self.claimed_tokens)
                if tokens < 1:
                    self.progress.stopped = "max_tokens"
                    return None
            width = max(1, int(BUCKETS * tokens / max(1, self.progress.tokens)))
            wave = Wave(self.next_bucket, min(BUCKETS, self.next_bucket + width), self.next_version)
            self.next_bucket, self.next_version = wave.high, self.next_version + 1
            self.claimed_tokens += self.progress.tokens * wave.share
            return wave

    def _wave(self, lane: int, wave: "Wave") -> None:
        began = time.monotonic()
        desk, tally = self.desk, self.tallies[lane]
        before = tally.rows.value
        questions = self._questions(wave)
        expected = self.progress.questions * wave.share
        partitions = min(desk.cluster.slots * PARTITIONS_PER_SLOT, round(expected / ROWS_PER_PARTITION))
        answers = questions.repartition(max(1, partitions)).mapInPandas(asker(desk.spec, tally), OUTPUT_DDL)
        answers = answers.withColumn("lane", F.lit(lane)).withColumn("lane_version", F.lit(wave.version).cast("bigint"))
        transaction = {"txnAppId": desk.transactions_of(lane), "txnVersion": str(wave.version)}
        lake.append(answers, desk.store.place("answers"), options=transaction)
        if tally.rows.value == before:
            self._check_lost(wave)
        tokens, seconds = round(self.progress.tokens * wave.share), time.monotonic() - began
        with self.lock:
            self.progress.waves += 1
            self.progress.done_tokens += tokens
            self.pace.took(tokens, seconds)
        told = facts(lane=lane, version=wave.version, questions=round(expected), seconds=round(seconds, 3))
        log.info("wave committed", extra=told)

    def _check_lost(self, wave: "Wave") -> None:
        """Look after a wave of which no task reported an answer: it had no question, or it was never asked.

        Raises:
            ConflictError: nothing of it is there. Delta takes the write of a version that another run has used for
                done, and asks nothing.
        """
        mine = F.col("lane_version") == wave.version
        if self._answers().where(mine).isEmpty() and not self._questions(wave).isEmpty():
            raise ConflictError(
                f"another run for {self.desk.target} has committed answers in this one's place",
                hint="let the other run end, then start this one again: it continues from what is answered",
            )

    def _take_stock(self) -> None:
        """Read back what the waves committed: one look for the whole run, since each costs as much as a short wave."""
        done = self.progress
        counts = [F.sum(name).alias(name) for name in ("prompt_tokens", "completion_tokens", "cached_tokens")]
        kinds = [
            F.count_if(F.col("status") == "ok").alias("answered"),
            F.count_if(F.col("status") != "ok").alias("failed"),
        ]
        for row in self._answers().agg(*kinds, *counts).collect():
            for name, value in row.asDict().items():
                setattr(done, name, int(value or 0))

    def _answers(self) -> DataFrame:
        answers = self.desk.store.read(self.desk.spark, "answers")
        return answers.where(F.col("answered_run") == self.desk.spec.run_id)

    def _questions(self, wave: "Wave") -> DataFrame:
        mine = (F.col("run_id") == self.desk.spec.run_id) & F.col("bucket").between(wave.low, wave.high - 1)
        questions = self.desk.store.read(self.desk.spark, "questions").where(mine)
        return questions.select("task", "fingerprint", "question_id", "inputs")


@dataclass(frozen=True)
class Wave:
    """A range of buckets, asked and committed in one transaction."""

    low: int
    high: int
    version: int

    @property
    def share(self) -> float:
        """The part of all buckets that it holds."""
        return (self.high - self.low) / BUCKETS


def _highest_version(desk: Desk) -> int:
    """Return the highest transaction version on record; every lane's next one lies above."""
    row = desk.store.read(desk.spark, "answers").agg(F.max("lane_version")).first()
    return int(row[0]) if row is not None and row[0] is not None else 0


def _translated(problem: Exception) -> BurnishError:
    """Make one sentence of a problem that a lane had."""
    found = _PROBLEM.findall(str(problem))
    if not found:
        if isinstance(problem, lake.CONFLICTS) or "DELTA_CONCURRENT" in str(problem):
            return _raced()
        kind = type(problem).__name__
        return EnvironmentProblem(
            f"Spark failed while asking ({kind})", hint="Spark's own log says more; answers so far are kept"
        )
    return EnvironmentProblem(found[-1].strip(), hint="the table is untouched; `burnish doctor` checks the rest")


def _raced() -> ConflictError:
    return ConflictError(
        "another run of this job is committing answers at the same moment",
        hint="let it end, then start this one again: it continues from what is answered",
    )
