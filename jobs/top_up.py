"""`review.top_up`: the next frame of a promised column fills night by night, and so does what people judge of it.

What is promised of such a frame is exact, since nothing of the following hangs on what anybody says of its rows:

- Who is in it: each run takes in the scored rows that are in no frame, at once and before one of them is shown to
  anybody. A row enters once, and a question with the rows that brought it in one night; what people make of a drawn row
  or of its equals later, in the source or by what they say, removes nobody and brings nobody in.
- The order of its draw: a secret of the frame gives each row a random place among all that have come or will come.
  A night draws the first rows that are not drawn yet, so that the draw is neither of tonight's rows nor of last week's.
- When it is closed: as soon as so many rows are drawn as was fixed when it began to fill, whoever has judged them. The
  night of it follows from how many rows each night brought, not from the places that they got. (Who changed `top_up`
  because of what was judged so far would choose that night.)
- What is looked at: the first `sample` rows in the order of the draw, all of them; those that the nights have not
  drawn are drawn at the end. By symmetry they are a uniform draw without replacement from the frame. The rows that were
  drawn night by night are not: a night with few rows has drawn a larger share of them than one with many. Nor would
  those be that happen to be judged by then.

A frame that somebody opens by hand has rows and an order of its own; the one that was filling is then given up, since
when it would end was no longer fixed beforehand. What people said of its rows stays what they said.
"""

from collections.abc import Iterator

from pyspark.sql import SparkSession

from jobs.cells import CellFrame, with_cells
from jobs.draws import ORDER, complete, drawn_rows, put, undrawn
from jobs.frames import (
    Frame,
    close_frame,
    framed_rows,
    frames_of,
    freeze,
    new_name,
    new_seed,
    outside,
    record,
    scored_rows,
    table_version,
)
from jobs.prepare import Prepared
from jobs.promise import labels_to_start, level_of_look
from jobs.source import one_column, open_scope
from jobs.store import Store
from schemas.accept import Promise


def top_up(spark: SparkSession, prepared: Prepared) -> Iterator[str]:
    """Draw a night's rows for the next frame of each promised column, and say how far it is.

    A column without a frame gets none: the first one is opened by `burnish review sample`.
    """
    rows, job, fingerprints = prepared.job.review.top_up, prepared.job, prepared.cells.fingerprints
    if rows is None:
        return
    known = frames_of(spark, prepared.store, job, {one.name: prepared.cells.scored_as(one.name) for one in job.columns})
    if not any(known.values()):
        return
    # what was written a moment ago, too
    scope = open_scope(spark, job, prepared.options)
    for at, task in enumerate(scope.tasks):
        promise = job.accept_of(task)
        if isinstance(promise, Promise) and known[task.name]:
            alone, rules = one_column(scope, at), prepared.cells.rules
            cells = with_cells(spark, alone, fingerprints, prepared.options, rules=rules)
            yield _fill(spark, cells, prepared.store, known[task.name], rows=rows, promise=promise)


def _fill(
    spark: SparkSession,
    cells: CellFrame,
    store: Store,
    frames: tuple[Frame, ...],
    *,
    rows: int,
    promise: Promise,
) -> str:
    name = cells.scope.tasks[0].name
    closed = [one for one in frames if not one.is_open]
    newcomers = outside(scored_rows(cells), framed_rows(spark, store, closed, name))
    if frames[-1].is_open:
        frame = frames[-1]
        # a row that is there already is no newcomer to `freeze`
        there = framed_rows(spark, store, [frame], name)
        freeze(outside(newcomers, there, by=["question_id"]), store, frame, is_known=True)
    else:
        frame = _begun(spark, cells, store, closed[-1], promise)
        freeze(newcomers, store, frame)
        record(spark, cells, store, frame)
    tonight = undrawn(spark, store, frame).orderBy(*ORDER).limit(rows)
    new, drawn = put(spark, cells, store, tonight, frame, most=rows)
    wanted = frame.sample or 0
    told = f"{name}: {new:,} rows drawn for the next frame ({drawn:,} of {wanted:,})"
    if drawn < wanted:
        return f"{told}; `burnish review` asks people about them"
    frame = close_frame(spark, cells, store, frame)
    more = complete(spark, cells, store, frame)
    return f"{told}; it is closed with {frame.rows:,} rows, {more:,} more were drawn that are first in its order"


def _begun(spark: SparkSession, cells: CellFrame, store: Store, before: Frame, promise: Promise) -> Frame:
    """A frame to be filled that will be judged as far as the one before it, and far enough for the promise."""
    _, enough = labels_to_start(promise.precision, level_of_look(promise.assurance, 1))
    drawn = before.sample or drawn_rows(spark, store, [before]).count()
    return Frame(
        new_name(), before.column, table_version(spark, cells), 0, (),
        since=before.version, seed=new_seed(), sample=max(drawn, enough), is_open=True,
    )  # fmt: skip
