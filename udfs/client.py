"""A sliding window of reads over a replica: it spans Arrow batches, answers in any order, and outlives the engine."""

import logging
import math
import queue
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Generic, Protocol, TypeVar

from schemas.errors import RETRYABLE_ROW_CODES
from udfs.post import Kind, Line, Outcome, Result
from udfs.sharing import passing, quiet, unlocked
from udfs.standing import BEAT
from udfs.watchdog import is_healthy
from udfs.wire import Read, Reply

T = TypeVar("T")

log = logging.getLogger(__name__)

GARBLED_RETRIES: Final = 2
MOST_HUNG: Final = 2
DEATHS: Final = frozenset({Outcome.DEAD, Outcome.UNREACHABLE})
REFUSALS: Final = {Outcome.REFUSED: "refused_request", Outcome.OVER_LONG: "over_long"}


class Engine(Protocol):
    """What the client needs of a replica."""

    @property
    def folder(self) -> Path:
        """Where tasks that share the engine keep their locks."""
        ...

    @property
    def socket(self) -> Path:
        """Where the engine listens."""
        ...

    @property
    def choices_dir(self) -> Path:
        """Where closed sets lie."""
        ...

    @property
    def generation(self) -> int:
        """Which engine this is since the replica began."""
        ...

    def recover(self, seen_generation: int) -> int:
        """Restart a dead engine, or find that somebody did."""
        ...

    def note_progress(self, generation: int) -> None:
        """Say that a row was decided."""
        ...


@dataclass(eq=False)
class Item(Generic[T]):
    """One piece of the caller's work and the replies it still waits for."""

    work: T
    replies: list[Reply | None]
    missing: int


@dataclass(eq=False)
class Seat(Generic[T]):
    """One read's place in its item."""

    item: Item[T]
    place: int
    read: Read
    garbled: int = 0

    def settle(self, reply: Reply) -> Item[T] | None:
        """Keep the reply; returns the item once it has all of them."""
        self.item.replies[self.place] = reply
        self.item.missing -= 1
        return None if self.item.missing else self.item


@dataclass(eq=False)
class Sent(Generic[T]):
    """A POST on its way, who waits for it, since when the engine has it, and which engine (0: none was there)."""

    kind: Kind
    seats: list[Seat[T]]
    line: Line
    started: float = math.inf
    generation: int = 0
    hangs: bool = False
    result: Result = field(default_factory=lambda: Result(Outcome.DEAD))


class Client:
    """Keeps about `window` reads in flight, in POSTs of up to `post_size` prompts."""

    def __init__(self, replica: Engine, *, window: int, post_size: int = 32, timeout_sec: float = 300.0) -> None:
        """Set up; `timeout_sec` is how long the engine may neither answer nor take a step before it is stuck."""
        self.replica = replica
        self.window = max(1, window)
        # Two POSTs must overlap, or the engine idles while one is written and the other read.
        self.post_size = max(1, min(post_size, self.window // 2))
        self.timeout_sec = timeout_sec

    def run(self, work: Iterable[tuple[T, list[Read]]]) -> Iterator[tuple[T, list[Reply]]]:
        """Answer all work, in any order; it is pulled only as the window moves.

        Raises:
            EnvironmentProblem: the engine cannot be kept alive; a single bad read never raises.
        """
        window = Window(self, iter(work))
        try:
            yield from window.run()
        finally:
            window.close()


class Window(Generic[T]):
    """One pass over some work."""

    def __init__(self, client: Client, work: Iterator[tuple[T, list[Read]]]) -> None:
        """Nothing is pulled or sent yet."""
        self.client = client
        self.replica = client.replica
        self.work = work
        self.is_drained = False
        self.queued: dict[Kind, deque[Seat[T]]] = {}
        self.alone: deque[Seat[T]] = deque()
        self.flying: set[Sent[T]] = set()
        self.landed: queue.SimpleQueue[Sent[T]] = queue.SimpleQueue()
        self.done: deque[Item[T]] = deque()
        self.generation = self.replica.generation
        self.noted = 0
        self.hung = 0
        lanes = -(-client.window // client.post_size) + 2
        self.senders = ThreadPoolExecutor(max_workers=lanes, thread_name_prefix="post")

    def run(self) -> Iterator[tuple[T, list[Reply]]]:
        """Pull, send, take in, until nothing is left."""
        while True:
            self.pull()
            self.send()
            while self.done:
                item = self.done.popleft()
                yield item.work, [reply for reply in item.replies if reply is not None]
            if self.flying:
                self.take_in()
            elif self.is_drained and not self.queued and not self.alone:
                return

    def close(self) -> None:
        """Drop what is still in flight."""
        for sent in self.flying:
            sent.line.cut()
        self.senders.shutdown(wait=True, cancel_futures=True)

    def reads_in(self, seats: Iterable[Sequence[Seat[T]]]) -> int:
        """How many reads some groups hold."""
        return sum(map(len, seats))

    def pull(self) -> None:
        """Take work until the window is full and each kind of read has the chance to fill a POST."""
        client = self.client
        while not self.is_drained:
            waiting = self.reads_in(self.queued.values()) + self.reads_in(sent.seats for sent in self.flying)
            if waiting >= client.window + client.post_size * max(1, len(self.queued)):
                return
            try:
                work, reads = next(self.work)
            except StopIteration:
                self.is_drained = True
                return
            item = Item(work, [None] * len(reads), len(reads))
            if not reads:
                self.done.append(item)
            for place, read in enumerate(reads):
                self.queued.setdefault(Kind.of(read), deque()).append(Seat(item, place, read))

    def send(self) -> None:
        """Fill the window: full POSTs first, then the largest partial one rather than let the engine starve."""
        room = self.client.window - self.reads_in(sent.seats for sent in self.flying)
        while room > 0 and self.alone:
            seat = self.alone.popleft()
            self.post([seat])
            room -= 1
        while room > 0 and self.queued:
            kind = max(self.queued, key=lambda kind: len(self.queued[kind]))
            seats = self.queued[kind]
            batch = [seats.popleft() for _ in range(min(len(seats), self.client.post_size))]
            if not seats:
                del self.queued[kind]
            self.post(batch)
            room -= len(batch)

    def post(self, seats: list[Seat[T]], *, lock: Callable[[Path], AbstractContextManager[None]] | None = None) -> None:
        """Hand one POST to a sender thread."""
        sent = Sent(Kind.of(seats[0].read), seats, Line(self.replica.socket))
        self.flying.add(sent)
        self.senders.submit(self.deliver, sent, lock or passing)

    def deliver(self, sent: Sent[T], lock: Callable[[Path], AbstractContextManager[None]]) -> None:
        """Send one POST and queue what came of it; runs in a sender thread."""
        try:
            with lock(self.replica.folder):
                sent.generation = self.replica.generation
                sent.started = time.monotonic()
                prompts = [seat.read.prompt for seat in sent.seats]
                sent.result = sent.line.send_reads(sent.kind, prompts, self.replica.choices_dir)
                if sent.result.outcome is Outcome.UNREACHABLE:
                    sent.generation = 0
        finally:
            self.landed.put(sent)

    def land(self) -> Sent[T]:
        """The next POST to come back.

        Raises:
            queue.Empty: none did for as long as the client has patience.
        """
        sent = self.landed.get(timeout=self.client.timeout_sec)
        self.flying.discard(sent)
        self.generation = max(self.generation, sent.generation)
        return sent

    def take_in(self) -> None:
        """Wait for one POST and act on it; when none comes for too long, the engine counts as dead."""
        try:
            sent = self.land()
        except queue.Empty:
            if self.is_stuck():
                self.heal([], max(sent.generation for sent in self.flying))
            return
        if sent.result.outcome in DEATHS:
            self.heal(sent.seats, sent.generation or self.generation)
        else:
            self.act_on(sent)

    def act_on(self, sent: Sent[T]) -> None:
        """Settle the seats of a POST that the engine lived through, or send them again."""
        outcome = sent.result.outcome
        if outcome is Outcome.ANSWERED:
            for seat, reply in zip(sent.seats, sent.result.replies, strict=True):
                self.settle(seat, reply)
        elif outcome is Outcome.GARBLED:
            self.retry_garbled(sent.seats)
        elif len(sent.seats) == 1:
            self.settle(sent.seats[0], Reply(error=REFUSALS[outcome]))
        else:
            # One refused prompt has the whole POST refused: the others are innocent.
            self.alone.extend(sent.seats)

    def retry_garbled(self, seats: Iterable[Seat[T]]) -> None:
        """Send reads again whose response was cut or made no sense, a few times, each alone."""
        for seat in seats:
            seat.garbled += 1
            if seat.garbled > GARBLED_RETRIES:
                self.settle(seat, Reply(error="engine_unavailable"))
            else:
                self.alone.append(seat)

    def settle(self, seat: Seat[T], reply: Reply) -> None:
        """Keep a reply; the first one per engine that decides a row is told to the replica."""
        if self.noted != self.generation and reply.error not in RETRYABLE_ROW_CODES:
            self.noted = self.generation
            self.replica.note_progress(self.generation)
        item = seat.settle(reply)
        if item is not None:
            self.done.append(item)

    def heal(self, seats: list[Seat[T]], dead: int) -> None:
        """Get an engine beyond the dead one, then ask what was in flight one at a time while no other task sends.

        Raises:
            EnvironmentProblem: the engine cannot be kept alive.
        """
        suspects = deque(seats)
        # Before the engine is ended: it would finish what it has in hand with half a text.
        for sent in self.flying:
            if sent.generation <= dead:
                sent.line.cut()
        self.generation = self.replica.recover(dead)
        while self.flying:
            sent = self.landing()
            if sent.result.outcome in DEATHS:
                suspects.extend(sent.seats)
            else:
                self.act_on(sent)
        with quiet(self.replica.folder):
            self.generation = self.replica.generation
            while suspects:
                self.try_alone(suspects.popleft())

    def landing(self) -> Sent[T]:
        """The next POST to come back, however long it takes; all are cut off when the engine is stuck."""
        while True:
            try:
                return self.land()
            except queue.Empty:
                if self.is_stuck():
                    hangs = is_healthy(self.replica.socket)
                    for sent in self.flying:
                        sent.hangs = hangs
                        sent.line.cut()

    def is_stuck(self) -> bool:
        """Whether the engine has had a POST for too long and has taken no step for as long.

        Its logits processor leaves a mark at every step. No bound on tokens per second would do instead: it would have
        to hold for every model on every machine, and a stuck engine answers /health as a slow one does.
        """
        # What waits at the gate, because another task has the engine to itself, is not the engine's fault.
        waited = time.monotonic() - min(sent.started for sent in self.flying)
        return min(waited, self.idle_sec()) >= self.client.timeout_sec

    def idle_sec(self) -> float:
        """How long ago the engine's last step was."""
        try:
            return time.time() - (self.replica.choices_dir / BEAT).stat().st_mtime
        except FileNotFoundError:
            return math.inf

    def try_alone(self, seat: Seat[T]) -> None:
        """Ask one read with nothing else out: if the engine dies of it or sits on it, the read is to blame."""
        self.post([seat], lock=unlocked)
        sent = self.landing()
        outcome = sent.result.outcome
        if outcome not in DEATHS:
            self.hung = 0
            self.act_on(sent)
            return
        if sent.hangs:
            self.settle(seat, Reply(error="timeout"))
            self.hung += 1
            if self.hung < MOST_HUNG:
                return
            # Two reads in a row: it is the engine.
        elif outcome is Outcome.UNREACHABLE:
            # The engine was gone before it saw the read.
            self.queued.setdefault(sent.kind, deque()).append(seat)
        else:
            log.warning("the engine died of one question, which is set aside as engine_fatal")
            self.settle(seat, Reply(error="engine_fatal"))
        self.hung = 0
        self.generation = self.replica.recover(sent.generation or self.generation)
