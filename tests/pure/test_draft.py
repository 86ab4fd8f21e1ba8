"""First job files: they pass validation whatever the table holds, and name a free column."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.draft import LABELLED, MAX_LABELS, Draft, Key, draft_text, output_name
from schemas.errors import DataContractError, JobFileError
from schemas.job import EnrichJob, Place
from schemas.tasks import TASK_NAMES
from schemas.yaml_file import parse_job

TEXT = st.text(min_size=1, max_size=30)


def drafted(task: str, columns: list[str], **more: object) -> EnrichJob:
    labels_from = "status" if more.get("labels") else None
    name = output_name(task, columns, labels_from=labels_from, wanted=None, taken=columns)
    facts = {"place": Place(table="a.b"), "version": 1, "model": "smollm2", "key": Key(("id",), rows=10), **more}
    draft = Draft(task=task, columns=tuple(columns), name=name, labels_from=labels_from, **facts)  # type: ignore[arg-type]
    return parse_job(draft_text(draft), env={})


@pytest.mark.parametrize("task", TASK_NAMES)
def test_every_task_has_a_first_file(task: str) -> None:
    job = drafted(task, ["text", "other"])
    assert job.columns[0].task == task
    assert job.accept == 0.8


@pytest.mark.parametrize("task", LABELLED)
def test_labels_that_yaml_would_turn_into_other_things_stay_text(task: str) -> None:
    assert drafted(task, ["text", "other"], labels={"yes": 3, "no": 2, "12:30": 1}).columns[0].task == task


def is_a_path(text: str) -> bool:
    return "\0" not in text


@given(
    st.lists(TEXT, min_size=2, max_size=4, unique=True),
    TEXT.filter(is_a_path),
    st.dictionaries(TEXT, st.integers(1), max_size=5),
)
def test_no_name_or_label_breaks_the_file(columns: list[str], folder: str, labels: dict[str, int]) -> None:
    labels = {"one": 9, "two": 8, **{label: rows for label, rows in labels.items() if label.strip()}}
    job = drafted("classify", columns, labels=labels, place=Place(path=folder), key=Key(tuple(columns), rows=0))
    assert job.source.path == folder
    assert job.key == tuple(columns)
    task = job.columns[0]
    assert task.inputs == tuple(columns)
    assert set(task.labels) <= set(labels)  # type: ignore[union-attr, arg-type]


def test_labels_too_close_or_too_many_are_named_in_comments() -> None:
    labels = {"Refund": 9, "refund ": 8, **{f"label {n}": 1 for n in range(600)}}
    draft = Draft(
        place=Place(table="t"),
        version=0,
        task="classify",
        columns=("text",),
        name="x",
        model="/models/eight b",
        key=Key(("id",), rows=1),
        labels_from="status",
        labels=labels,
    )
    text = draft_text(draft)
    assert "# left out: 'refund ' (rows: 8), too close to 'Refund'" in text
    job = parse_job(text, env={})
    assert len(job.columns[0].labels) == MAX_LABELS  # type: ignore[union-attr, arg-type]
    assert job.model.path == "/models/eight b"


def test_a_label_longer_than_a_yaml_key_may_be_is_kept() -> None:
    assert "x" * 2000 in drafted("multilabel", ["t"], labels={"a": 2, "x" * 2000: 1}).columns[0].labels  # type: ignore[union-attr, operator]


def test_the_output_has_a_name_that_is_free() -> None:
    taken = ["text", "status", "STATUS_suggested", "status_suggested_2_meta"]
    assert output_name("classify", ["text"], labels_from="status", wanted=None, taken=taken) == "status_suggested_3"
    assert output_name("answer", ["7 größe"], labels_from=None, wanted=None, taken=[]) == "x_7_gr_e_answer"
    with pytest.raises(DataContractError, match="already"):
        output_name("classify", ["text"], labels_from=None, wanted="Status", taken=taken)
    with pytest.raises(JobFileError, match="--name takes"):
        output_name("classify", ["text"], labels_from=None, wanted="a b", taken=taken)


@pytest.mark.parametrize(
    ("task", "labels_from", "wanted", "says"),
    [
        ("match", None, None, "at least 2"),
        ("impute", None, None, "at least 2"),
        ("extract", "status", None, "takes no labels"),
        ("clean", None, "other", "leave --name out"),
    ],
)
def test_arguments_that_do_not_fit_the_task_are_refused(
    task: str, labels_from: str | None, wanted: str | None, says: str
) -> None:
    with pytest.raises(JobFileError, match=says):
        output_name(task, ["text"], labels_from=labels_from, wanted=wanted, taken=["text"])
