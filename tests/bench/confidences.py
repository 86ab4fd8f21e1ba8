"""Which score tells right answers from wrong ones best: burnish's and other projects', on identical answers.

The embedded model is asked once about rows of the public sets. A task's default is looked at on training rows, where
one could still choose another, and judged on test rows.
"""

import hashlib
import importlib
import json
import os
import shutil
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import get_args

from formulas import MOST_OPTIONS, autolabel, autolabel_keys, docetl, logs, tlm
from pyspark.sql import functions as F
from report import Table
from rig import Bench
from spoken import Heard, listening

from jobs.asking import ready_model, spec_of
from jobs.comparison import Compared, compare, told
from jobs.evaluate import scored, with_truth
from jobs.scores import Cell, is_right, read_value, truth_of
from jobs.source import resolve_labels, source_rows
from schemas.job import EnrichJob, Source
from schemas.scores import OF_TEXT, ScoreName, of_field
from schemas.suite import SuiteFile, SuiteSet
from schemas.tasks import AnyTask, Classify, Extract, Match
from schemas.yaml_file import load_file, load_job
from udfs.ask import OUTPUT, OUTPUT_DDL, AskSpec, Desk, Question, Row, answer_at, inquiry_of, open_desk

SUITE = Path(__file__).parents[1] / "suite"
QUICK = ("snips", "snips_BookRestaurant")
ROWS, QUICK_ROWS = 100, 30
SEED, RESAMPLES = 5, 1000
KEEP_WARM_MIN = 30.0
CHOICE = (
    "Of the scores that a column may choose. Here a default is chosen; test rows judge it. A task keeps the score that "
    "is made for it (the share of a label, the probability of a text) unless another has the higher mean on training "
    "rows and is surely ahead on some set of them. Over labels *probability* has the higher mean and is surely ahead "
    "on none of 8 sets: its lead is that of snips, where 4 answers of 100 are wrong (0.089, +0.000 to +0.303); on the "
    "others the two are within 0.008. Of multilabel *label_mass* is ahead on the one set, not surely. Of fields "
    "another is surely ahead on one set of 14, and none has the higher mean. No set with questions has training rows: "
    "answers that are written freely have the default of other texts."
)
BEHIND = (
    "Why the default is behind where it is. Fields of ae110k_shirts: among values that are stated it is first (0.911; "
    "mean_probability 0.899, minimum 0.867), among those that are not all scores are equal (0.676); 27 % of these are "
    "wrong, and a product over five tokens stands below one over three. Whole answers of wnut17: 96 of 100 state "
    "nothing, and whether they are right hangs on the one field that was missed, so that the weakest field "
    "tells more than the product of six. Whole answers of snips_AddToPlaylist: no pattern was found; "
    "it is one of some 200 comparisons. Two have no figure: all answers of fodors_zagats are right, and all whole "
    "answers of us_addresses are wrong."
)


@dataclass
class Pile:
    """Answers of one kind: whether each is right, and what each formula says of it."""

    name: str
    kind: str
    own: str
    right: list[bool] = field(default_factory=list)
    said: list[Mapping[str, float | None]] = field(default_factory=list)

    def add(self, right: bool, said: Mapping[str, float | None]) -> None:
        """Put one answer on the pile."""
        self.right.append(right)
        self.said.append(said)

    def compared(self) -> list[Compared]:
        """Measure every formula beside the default."""
        names = dict.fromkeys(name for one in self.said for name in one)
        scores = {name: [one.get(name) for one in self.said] for name in names}
        return compare(self.right, scores, self.own, resamples=RESAMPLES, seed=SEED)


def confidences(bench: Bench) -> list[Table]:
    """Ask, and measure every formula on training and on test rows."""
    file = public_suite(bench, only=QUICK if bench.quick else ())
    trained: list[Pile] = []
    tested: list[Pile] = []
    for one in file.sets:
        job = load_job(Path(one.job))
        test = one.source or job.source
        if job.source != test:
            trained += _piles(bench, one, job, job.source)
        tested += _piles(bench, one, job, test)
    if not bench.quick:
        trained += _texts_to_choose_by(bench)
    # another run may come with other formulas
    shutil.rmtree(_kept())
    judged = [(pile, pile.compared()) for pile in tested if pile.right]
    chosen = [(pile, pile.compared()) for pile in trained if pile.right]
    note = (
        f"{bench.size(ROWS, quick=QUICK_ROWS)} rows a set, asked once; every formula sees the same tokens. *Default*: "
        "what burnish takes as confidence; *first or equal*: no formula has a higher AUROC, or the interval of each "
        "that has (95 %, paired bootstrap) includes 0. Sets of which all answers are right, or all wrong, say nothing. "
        f"Of an extract every formula has the figures under the grammar, over the tokens that it allows. {BEHIND}"
    )
    return [summary("test rows", judged, note), _choice(chosen), *(details(*one) for one in judged)]


def public_suite(bench: Bench, *, only: Collection[str] = ()) -> SuiteFile:
    """The public suite, or `only` some of its sets: over the tables that `BURNISH_SUITE` names, or ones written now."""
    if "BURNISH_SUITE" not in os.environ:
        sys.path.insert(0, str(SUITE))
        build = importlib.import_module("build")
        os.environ["BURNISH_SUITE"] = bench.path("suite")
        data = Path(os.environ.get("BURNISH_DATA", build.DEFAULT_DATA))
        build.write(bench.spark, Path(bench.path("suite")), data, only=set(only) or None)
    file = load_file(SUITE / "suite.yaml", SuiteFile)
    return file.model_copy(update={"sets": tuple(s for s in file.sets if s.name in only)}) if only else file


def _texts_to_choose_by(bench: Bench) -> list[Pile]:
    """Cleaning by examples: free texts that may be learnt from, of which the suite judges other tasks."""
    file = Path(os.environ["BURNISH_SUITE"]) / "transformations.yaml"
    job = load_job(file)
    truth = {task.name: f"{task.name}_truth" for task in job.columns}
    one = SuiteSet(name="transformations", job=str(file), truth=truth, source=job.source)
    return _piles(bench, one, job, job.source)


def _piles(bench: Bench, one: SuiteSet, job: EnrichJob, source: Source) -> list[Pile]:
    """Ask about rows of one table, or take what a run that was cut short has asked of the same."""
    engine = job.engine.model_copy(update={"keep_warm_min": KEEP_WARM_MIN})
    columns = tuple(task for task in job.columns if task.name in one.truth)
    job = job.model_copy(update={"source": source, "engine": engine, "columns": columns})
    job = resolve_labels(bench.spark, job)
    spec = spec_of(bench.spark, job, ready_model(job), run_id="bench")
    known = (*spec.fingerprints, source.text, bench.size(ROWS, quick=QUICK_ROWS), SEED)
    kept = _kept() / f"{one.name}_{hashlib.sha256(repr(known).encode()).hexdigest()[:16]}.json"
    if not kept.exists():
        kept.parent.mkdir(exist_ok=True)
        part = kept.with_suffix(".part")
        part.write_text(json.dumps([asdict(pile) for pile in _asked(bench, one, job, spec)]), encoding="utf-8")
        part.rename(kept)
    return [Pile(**pile) for pile in json.loads(kept.read_text(encoding="utf-8"))]


def _kept() -> Path:
    """Where a run that is under way keeps what it has asked; one that ends well leaves nothing there."""
    return Path(os.environ["BURNISH_SUITE"]) / "confidences"


def _asked(bench: Bench, one: SuiteSet, job: EnrichJob, spec: AskSpec) -> Iterator[Pile]:
    """Ask; an extract gives a pile of whole answers and one of fields."""
    with open_desk(spec, owner_pid=bench.jvm_pid) as desk:
        first = job.columns[0]
        # columns of one set are alike, and each may have few rows
        whole, fields = Pile(one.name, first.task, first.score_names[0]), Pile(one.name, first.task, OF_TEXT[0])
        for task in job.columns:
            rows = truths(bench, job, task, one.truth[task.name])
            name = f"{one.name}.{task.name}"
            answers = bench.timed(name, lambda task=task, rows=rows: list(_answers(bench, desk, spec, task, rows)))
            for answer in answers:
                whole.add(is_right(task, answer.cell), answer.scores)
            if isinstance(task, Extract):
                _add_fields(fields, task, answers)
    yield whole
    if fields.right:
        yield replace(fields, name=f"{one.name}, fields", kind=f"{first.task}, fields")


def truths(bench: Bench, job: EnrichJob, task: AnyTask, column: str) -> list[tuple[tuple[str | None, ...], Cell]]:
    """So many rows that have a truth, drawn by seed and key: the texts that are asked about, and the truth."""
    order = F.xxhash64(F.lit(SEED), *[F.col(f"`{name}`").cast("string") for name in job.key]).alias("order")
    found = with_truth(source_rows(bench.spark, job), column, task, [order]).orderBy("order")
    known = []
    for row in found.limit(bench.size(ROWS, quick=QUICK_ROWS)).collect():
        if (truth := truth_of(task, row["truth"])) is not None:
            known.append((tuple(row["inputs"]), Cell(truth[0], before=row["before"])))
    return known


@dataclass(frozen=True)
class Answer:
    """One answer beside its truth, with what every formula says of it, and of each field of an extract."""

    cell: Cell
    scores: Mapping[str, float | None]
    fields: Mapping[str, Mapping[str, float | None]]


def _answers(
    bench: Bench, desk: Desk, spec: AskSpec, task: AnyTask, rows: Sequence[tuple[tuple[str | None, ...], Cell]]
) -> Iterable[Answer]:
    """Ask about rows; those without an answer are left out, since nothing is sure of them."""
    heard: dict[str, list[Heard]] = {}
    questions = [Question(task.name, "", str(at), inputs) for at, (inputs, _) in enumerate(rows)]
    answered = [row for row in answer_at(listening(desk, heard), spec, questions) if row["status"] == "ok"]
    tongue = inquiry_of(task, desk.setting).setting.tokens
    said, options = ours(bench, task, answered), _options(desk, spec, task, questions, answered)
    for row in answered:
        place = row["question_id"]
        tokens = [token for one in heard[place] for token in one.tokens(tongue)]
        scores: dict[str, float | None] = {**said[place], "Autolabel": autolabel(tokens), "TLM": tlm(tokens)}
        fields: dict[str, dict[str, float | None]] = {}
        if isinstance(task, Extract):
            keys = autolabel_keys(tokens, list(task.attributes))
            scores["Autolabel, lowest key"] = min(keys.values())
            fields = {name: {**_own(row, name), "Autolabel, its key": keys[name]} for name in task.attributes}
        if place in options:
            scores["docetl"] = docetl(logs(options[place]))
        cell = replace(rows[int(place)][1], value=read_value(row["value"]), is_answered=True)
        yield Answer(cell, scores, fields)


def ours(bench: Bench, task: AnyTask, answered: Sequence[Row]) -> dict[str, dict[str, float | None]]:
    """What is stored with each answer, as a column that chose it would show it."""
    frame = bench.spark.createDataFrame([tuple(row[name] for name in OUTPUT) for row in answered], OUTPUT_DDL)
    rows = frame.select("question_id", *scored(task)).collect()
    return {row["question_id"]: row["scores"].asDict() for row in rows}


def _options(
    desk: Desk, spec: AskSpec, task: AnyTask, questions: Sequence[Question], answered: Sequence[Row]
) -> dict[str, list[float]]:
    """The probability of every option, where docetl's menu could hold them all.

    Labels are read once more for it, each by itself; the answer that is judged stays the one that was given.
    """
    if isinstance(task, Match):
        return {row["question_id"]: [row["scores"]["score"], 1 - row["scores"]["score"]] for row in answered}
    if not isinstance(task, Classify) or len(task.labels) + bool(task.abstain) > MOST_OPTIONS:
        return {}
    whole = replace(spec, tasks=(task.model_copy(update={"scores": True}),))
    rows = answer_at(desk, whole, questions)
    return {row["question_id"]: list(row["scores"].values()) for row in rows if row["status"] == "ok"}


def _own(row: Row, name: str) -> dict[str, float | None]:
    return {kind: row["scores"].get(of_field(name, kind)) for kind in OF_TEXT}


def _add_fields(pile: Pile, task: Extract, answers: Sequence[Answer]) -> None:
    """Every field of every answer by itself."""
    alone = {key: task.model_copy(update={"attributes": {key: one}}) for key, one in task.attributes.items()}
    for answer in answers:
        for key, scores in answer.fields.items():
            pile.add(is_right(alone[key], answer.cell), scores)


Judged = tuple[Pile, list[Compared]]


def summary(heading: str, judged: Sequence[Judged], note: str) -> Table:
    rows = []
    for pile, found in judged:
        own = next(one for one in found if one.is_own)
        best = max(found, key=lambda one: one.auroc if one.auroc is not None else -1.0)
        answers = f"{len(pile.right):,}"
        auroc = "" if own.auroc is None else f"{own.auroc:.3f}"
        behind = "" if best.is_own or own.auroc is None else f"{best.score} {best.auroc:.3f}"
        interval = told(best)[2] if behind else ""
        rows.append((pile.name, pile.kind, answers, own.score, auroc, behind, interval, _verdict(found)))
    headings = (heading, "task", "answers", "default", "AUROC", "highest other", "ahead by, 95 %", "default is")
    return Table(headings, rows, note)


def _verdict(found: Sequence[Compared]) -> str:
    if all(one.auroc is None for one in found if one.is_own):
        return "–"
    ahead = [one for one in found if (one.difference or 0.0) > 0]
    behind = [one.score for one in ahead if not one.may_be_equal]
    return f"behind {', '.join(behind)}" if behind else "equal" if ahead else "first"


def _choice(trained: Sequence[Judged]) -> Table:
    """The mean AUROC of each score that a column could choose, by kind of task, on rows that one may choose by."""
    by_kind: dict[str, list[tuple[str, list[Compared]]]] = {}
    for pile, found in trained:
        ours = [one for one in found if one.score in get_args(ScoreName) and one.auroc is not None]
        if ours:
            by_kind.setdefault(pile.kind, []).append((pile.own, ours))
    rows = []
    for kind, known in by_kind.items():
        names = list(dict.fromkeys(one.score for _, found in known for one in found))
        means = {name: fmean(s.auroc or 0.0 for _, found in known for s in found if s.score == name) for name in names}
        best, figures = max(means, key=means.__getitem__), ", ".join(f"{name} {means[name]:.3f}" for name in names)
        held = sum(_verdict(found).startswith(("first", "equal")) for _, found in known)
        rows.append((kind, f"{len(known)}", known[0][0], best, f"{held} of {len(known)}", figures))
    headings = ("training rows: task", "sets", "default", "highest mean", "first or equal", "mean AUROC")
    return Table(headings, rows, CHOICE)


def details(pile: Pile, found: Sequence[Compared]) -> Table:
    right = sum(pile.right) / max(1, len(pile.right))
    heading = f"{pile.name}: {pile.kind}, {len(pile.right):,} answers, {right:.0%} right"
    rows = [(f"**{one.score}**" if one.is_own else one.score, *told(one)) for one in found]
    figures = ("AUROC", "to the default", "95 %", "calibration error", "Brier", "risk-coverage", "not scored")
    return Table((heading, *figures), rows)
