"""`burnish report`: what a job wrote, how sure it is and where it was wrong, as one page that opens from disk."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from pyspark.sql import Column, DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from jobs import lake
from jobs.calibration import Scored, measured
from jobs.cells import CellFrame, asked_question, input_texts, proposed_text
from jobs.chosen import with_score
from jobs.frames import SCORED_STATES, Frame
from jobs.page import ColumnReport, Judged, Report
from jobs.people import found_right
from jobs.prepare import Opened, open_job, remarks_on_job
from jobs.review import newest_frames, shown
from jobs.scores import Cell, is_right, read_value, truth_of
from jobs.source import TARGET
from jobs.status import last_runs, status
from jobs.store import answers_by_question
from jobs.verdicts import truth_texts
from schemas.accept import Promise
from schemas.job import EnrichJob
from schemas.options import RunOptions
from schemas.tasks import AnyTask

MOST_SHOWN = 20
MOST_JUDGED = 50_000
MOST_KINDS = 15
BINS = 20


def report(
    spark: SparkSession,
    job: EnrichJob,
    *,
    truth_table: str | None = None,
    truth: Mapping[str, str] | None = None,
    values: bool = True,
) -> Report:
    """Read what stands in the target and what people judged of it.

    Args:
        truth_table: a table of true values under the job's key, instead of people's verdicts.
        truth: its column of true values, by the column that the job writes.
        values: whether cells' texts may stand on the page.

    Raises:
        DataContractError: a table or column is missing.
    """
    opened = open_job(spark, job, options=RunOptions())
    texts = None if truth_table is None else truth_texts(spark, opened, truth_table, truth or {})
    known = status(spark, job).columns
    frames = newest_frames(spark, opened) if texts is None else {}
    told = _told_of_calibrations(spark, opened)
    columns = []
    for at, task in enumerate(opened.tasks):
        cells = opened.cells.alone(at)
        if texts is None:
            judged = _by_verdict(spark, opened, task, frames.get(task.name))
        else:
            judged = _by_truth(opened, cells, texts) if task.name in (truth or {}) else []
        found = _column(cells, known.get(task.name, {}), judged, values=values)
        columns.append(replace(found, held_out=told.get(task.name, {})))
    last = last_runs(spark, job, most=2)
    runs = [_run(row, found) for row, found in last]
    return Report(
        job.target_place.text,
        job.source.text,
        last[0][1].get("model", job.model.text) if last else job.model.text,
        tuple(remarks_on_job(opened)),
        tuple(runs),
        tuple(columns),
        tuple(compared(*(found for _, found in last))) if len(last) == 2 else (),
    )


def compared(now: Mapping[str, Any], before: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What differs between the reports of two runs: per column its statuses, and how sure the answers were."""
    for name in now.get("columns", {}):
        pairs = [_figures(found, name) for found in (now, before)]
        for figure in dict.fromkeys((*pairs[0], *pairs[1])):
            values = [pair.get(figure, 0) for pair in pairs]
            if values[0] != values[1]:
                yield {"column": name, "figure": figure, "before": values[1], "now": values[0]}


def _figures(found: Mapping[str, Any], name: str) -> dict[str, float]:
    statuses = found.get("columns", {}).get(name, {}).get("statuses", {})
    figures = {status: count for status, count in statuses.items() if count}
    # of the answers that this run staged; a night without any says nothing of them
    facts = (found.get("gate") or {}).get(name, {})
    if facts.get("scored"):
        figures["mean confidence"] = round(facts["confidence"] / facts["scored"], 4)
    if facts.get("answered"):
        figures["share of nulls"] = round(facts["nulls"] / facts["answered"], 4)
    return figures


def _run(row: Row, found: Mapping[str, Any]) -> dict[str, Any]:
    names = ("rows", "questions", "failed", "prompt_tokens", "completion_tokens", "seconds", "cached_share", "cost")
    changed = {name: one.get("changed") for name, one in found.get("columns", {}).items()}
    known = {"run": row["run_id"], "state": row["last"]["state"], "started": f"{row['started_at']:%Y-%m-%d %H:%M} UTC"}
    known |= {"source_version": row["last"]["source_version"], "versions": found.get("versions", {})}
    return {**known, "changed": changed} | {name: found.get(name) for name in names}


def _column(cells: CellFrame, statuses: Mapping[str, int], judged: Sequence[Judged], *, values: bool) -> ColumnReport:
    (task,) = cells.scope.tasks
    scored = [one for one in judged if one.confidence is not None]
    wrong = sorted((one for one in judged if not one.right), key=lambda one: -(one.confidence or 0.0))
    kinds = Counter((one.answer, one.correction or "?") for one in wrong)
    bins, promises = _bins(cells)
    figures: dict[str, Any] = {}
    if scored:
        right = np.array([one.right for one in scored], dtype=float)
        figures = measured(np.array([one.confidence for one in scored], dtype=float), right)
        figures["right"] = float(np.mean([one.right for one in judged]))
    return ColumnReport(
        name=task.name,
        task=task.task,
        statuses={name: count for name, count in statuses.items() if count},
        bins=bins,
        judged=len(judged),
        figures={name: value for name, value in figures.items() if name != "reliability"},
        reliability=figures.get("reliability", ()),
        risk=_risk(scored),
        promised=_promised(cells),
        accept=_acceptance(cells.scope.job.accept_of(task)),
        kinds=[(*pair, count) for pair, count in kinds.most_common(MOST_KINDS)] if values else (),
        mistakes=wrong[:MOST_SHOWN] if values else (),
        to_review=_to_review(cells) if values else (),
        promises=promises,
    )


def _risk(scored: Sequence[Judged]) -> list[tuple[float, float]]:
    ordered = sorted(scored, key=lambda one: -(one.confidence or 0.0))
    wrong, found = 0, []
    for number, one in enumerate(ordered, 1):
        wrong += not one.right
        found.append((number / len(ordered), wrong / number))
    return found


def _promised(cells: CellFrame) -> tuple[float, float] | None:
    """The share of the newest frame's rows that its thresholds let through, and the share of wrong ones among them."""
    (task,) = cells.scope.tasks
    accept, rule = cells.scope.job.accept_of(task), cells.rules[task.name]
    return (rule.share, 1 - accept.precision) if isinstance(accept, Promise) and rule.thresholds else None


def _acceptance(accept: float | Promise | None) -> str:
    if isinstance(accept, Promise):
        return accept.text
    return "every answer" if accept is None else f"confidence {accept:g} or more"


def _bins(cells: CellFrame) -> tuple[list[tuple[int, int]], dict[str, int]]:
    """Cells by confidence, and how many are written by a promise or like those that are."""
    confidence = _confidence(cells)
    rows = cells.rows.where(F.col("_state0").isin(*SCORED_STATES) & confidence.isNotNull())
    place = F.least(F.floor(confidence * BINS), F.lit(BINS - 1)).cast("int").alias("bin")
    accepted = (F.col("_status0") != "review").alias("accepted")
    found, promises = [[0, 0] for _ in range(BINS)], Counter[str]()
    for row in rows.groupBy(place, accepted, F.col("_promise0").alias("promise")).count().collect():
        found[row["bin"]][0 if row["accepted"] else 1] += int(row["count"])
        if row["accepted"] and row["promise"] is not None:
            promises[row["promise"]] += int(row["count"])
    return [(one[0], one[1]) for one in found], dict(sorted(promises.items(), reverse=True))


def _confidence(cells: CellFrame) -> Column:
    name = f"{cells.scope.tasks[0].name}_confidence"
    prefixed = name if cells.scope.job.is_in_place else TARGET + name
    return lake.col(prefixed) if prefixed in cells.rows.columns else F.lit(None).cast("double")


def _to_review(cells: CellFrame) -> list[Judged]:
    """Rows that wait, the least sure first: a verdict on these says most."""
    confidence = _confidence(cells)
    rows = cells.rows.where((F.col("_status0") == "review") & confidence.isNotNull())
    few = rows.select(
        lake.key_json(cells.scope.job.key).alias("key"),
        input_texts(cells).alias("inputs"),
        proposed_text(cells).alias("answer"),
        confidence.alias("confidence"),
    )
    found = []
    for row in few.orderBy("confidence", "key").limit(MOST_SHOWN).collect():
        inputs, _ = shown(cells.scope.tasks[0], {"inputs": row["inputs"], "value": None})
        found.append(Judged(row["key"], inputs, row["answer"] or "", right=False, confidence=row["confidence"]))
    return found


def _by_verdict(spark: SparkSession, opened: Opened, task: AnyTask, frame: Frame | None) -> list[Judged]:
    if frame is None:
        return []
    # a skipped row counts against a promise, and is no known mistake
    mine = (F.col("frame") == frame.name) & (F.col("column") == task.name) & F.col("verdict").isin("yes", "no")
    rows = opened.store.read(spark, "review").where(mine).orderBy("place").limit(MOST_JUDGED)
    found = []
    for row in _with_mass(opened, task, rows).orderBy("place").collect():
        inputs, answer = shown(task, row.asDict())
        right = found_right(row["verdict"], row["value"], row["correction"])
        correction = None if right or row["correction"] is None else _text(json.loads(row["correction"]))
        confidence = _calibrated(opened, task, row["score"], row["label_mass"], row["value"])
        found.append(Judged(row["key"], inputs, answer, right, confidence, correction))
    return found


def _with_mass(opened: Opened, task: AnyTask, rows: DataFrame) -> DataFrame:
    """Add the label mass of the answers that were judged; null where one is gone, or no curve asks for it."""
    calibration = opened.cells.rules[task.name].calibration
    if calibration is None or all(one.kind != "both" for one in calibration.curves.values()):
        return rows.withColumn("label_mass", F.lit(None).cast("double"))
    answers = _answers(opened, task, wanted=rows)
    return rows.join(answers.select("question_id", "label_mass"), "question_id", "left")


def _answers(opened: Opened, task: AnyTask, *, wanted: DataFrame) -> DataFrame:
    """The answers to some questions as the column asks now, each with the score that it chose as its confidence."""
    fingerprints = [opened.cells.fingerprints[task.name]]
    answers = answers_by_question(wanted.sparkSession, opened.store, fingerprints, wanted=wanted)
    return with_score(answers.where("status = 'ok'"), task)


def _by_truth(opened: Opened, cells: CellFrame, texts: DataFrame) -> list[Judged]:
    (task,) = cells.scope.tasks
    rows = cells.rows.where(F.col("_state0").isin(*SCORED_STATES)).select(
        lake.key_json(opened.job.key).alias("key"),
        asked_question(cells).alias("question_id"),
        input_texts(cells).alias("inputs"),
    )
    known = rows.join(texts.select("key", F.col(lake.quoted(task.name)).alias("truth")), "key")
    answers = _answers(opened, task, wanted=known)
    known = known.join(answers.select("question_id", "value", "confidence", "label_mass"), "question_id")
    found = []
    for row in known.limit(MOST_JUDGED).collect():
        truth = truth_of(task, row["truth"])
        if truth is None:
            continue
        inputs, answer = shown(task, row.asDict())
        right = is_right(task, Cell(truth[0], read_value(row["value"]), is_answered=row["value"] is not None))
        confidence = _calibrated(opened, task, row["confidence"], row["label_mass"], row["value"])
        found.append(Judged(row["key"], inputs, answer, right, confidence, None if right else _text(truth[0])))
    return found


def _told_of_calibrations(spark: SparkSession, opened: Opened) -> dict[str, dict[str, Any]]:
    """What was measured of each calibration in use when it was made, on rows that it was not fitted on."""
    used = [name for name, rule in opened.cells.rules.items() if rule.calibration is not None]
    if not used:
        return {}
    mine = (F.col("target") == opened.job.target_place.text) & F.col("column").isin(used)
    rows = opened.store.read(spark, "calibrations").where(mine).orderBy("fitted_at").collect()
    fitting = [row for row in rows if row["fingerprint"] == opened.cells.scored_as(row["column"])]
    return {row["column"]: json.loads(row["told"]) for row in fitting}


def _calibrated(
    opened: Opened, task: AnyTask, score: float | None, mass: float | None, value: str | None
) -> float | None:
    calibration = opened.cells.rules[task.name].calibration
    if score is None or calibration is None:
        return score
    label = read_value(value)
    return calibration.value(Scored(score, mass, label if isinstance(label, str) else None, right=False))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
