"""Job files: what is refused, in which words, and that nothing but JobFileError ever comes out."""

from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.errors import JobFileError
from schemas.fields import ReviewedExamples
from schemas.tasks import Classify
from schemas.yaml_file import load_job, parse_job, yaml_text

HERE = Path(__file__).parent
BAD_JOBS = yaml.safe_load((HERE / "bad_jobs.yaml").read_text(encoding="utf-8"))
HEAD = """\
source: {table: shop.tickets}
key: [ticket_id]
model: smollm2
columns:
  - task: classify
    name: topic
    from: [message]
"""


def topic_of(labels: str) -> Classify:
    task = parse_job(f"{HEAD}    labels:\n{labels}", env={}).columns[0]
    assert isinstance(task, Classify)
    return task


@pytest.mark.parametrize("case", BAD_JOBS, ids=[case["case"] for case in BAD_JOBS])
def test_a_bad_job_file_is_refused_in_these_words(case: dict[str, str]) -> None:
    with pytest.raises(JobFileError) as caught:
        parse_job(case["job"], env={})
    assert str(caught.value) + "\n" == case["says"]
    assert caught.value.exit_code == 2


def test_the_example_of_the_documentation_is_accepted() -> None:
    job = load_job(HERE / "good_job.yaml")
    assert [task.task for task in job.columns] == ["classify", "clean", "impute", "extract", "match", "answer"]
    assert job.is_in_place


def test_a_file_on_windows_reads_like_one_on_unix(tmp_path: Path) -> None:
    text = (HERE / "good_job.yaml").read_text(encoding="utf-8")
    windows = tmp_path / "job.yaml"
    windows.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert load_job(windows) == load_job(HERE / "good_job.yaml")


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(JobFileError, match=r"nowhere\.yaml: cannot be read: No such file"):
        load_job(tmp_path / "nowhere.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"# fine\nkey: [\xe9]\n")
    with pytest.raises(JobFileError, match=r"latin\.yaml:2: is not UTF-8"):
        load_job(tmp_path / "latin.yaml")
    (tmp_path / "large.yaml").write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(JobFileError, match="larger than 1024 KiB"):
        load_job(tmp_path / "large.yaml")


def test_messages_carry_the_name_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "topics.yaml").write_text("key: 3\n")
    with pytest.raises(JobFileError) as caught:
        load_job(tmp_path / "topics.yaml")
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{tmp_path / 'topics.yaml'}:1:") for line in lines)
    assert len(lines) == 4


def test_environment_is_read_inside_strings_only() -> None:
    env = {"SCHEMA": "shop", "NUMBER": "3"}
    text = HEAD.replace("shop.tickets", '"${env:SCHEMA}.tickets"') + "    labels: [a, b]\n"
    assert parse_job(text, env=env).source.table == "shop.tickets"
    with pytest.raises(JobFileError, match="takes a whole number; got the text '\\$\\{env:NUMBER\\}'"):
        parse_job(text + "limits: {max_rows: '${env:NUMBER}'}\n", env=env)


def test_a_secret_from_the_environment_never_stands_in_a_message() -> None:
    with pytest.raises(JobFileError) as caught:
        parse_job(HEAD + "    labels: [a, b]\n    scores: '${env:TOKEN}'\n", env={"TOKEN": "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_a_condition_takes_no_variable_since_spark_shows_it() -> None:
    text = HEAD.replace("shop.tickets", "shop.tickets, where: \"token = '${env:TOKEN}'\"") + "    labels: [a, b]\n"
    with pytest.raises(JobFileError, match=r"source\.where: a condition takes no") as told:
        parse_job(text, env={"TOKEN": "hunter2"})
    assert "hunter2" not in str(told.value)


def test_an_alias_may_stand_for_labels_given_before() -> None:
    text = HEAD + "    labels: &both [a, b]\n  - {task: multilabel, name: all, from: [message], labels: *both}\n"
    first, second = parse_job(text, env={}).columns
    assert first.labels == second.labels == {"a": "", "b": ""}  # type: ignore[union-attr]


def test_explicit_core_tags_are_taken_at_their_word() -> None:
    assert topic_of("      !!str yes: sure\n      !!str 12: a dozen\n").labels == {"yes": "sure", "12": "a dozen"}


@given(
    st.lists(st.text(min_size=1, max_size=60), min_size=2, max_size=8, unique_by=lambda text: text.strip().casefold())
)
def test_any_label_that_is_quoted_reads_back(labels: list[str]) -> None:
    labels = [label for label in labels if label.strip()]
    if len(labels) < 2:
        return
    as_keys = "".join(f"      {yaml_text(label)}: ''    # a comment\n" for label in labels)
    as_list = "".join(f"      - {yaml_text(label)}    # a comment\n" for label in labels)
    assert list(topic_of(as_keys).labels) == list(topic_of(as_list).labels) == labels


@pytest.mark.parametrize(
    "label", ["${env:HOME}", "$${x}", "a: b", "'", '"', "\\", "#", "\n", "\x85", "\u2028", "\ud800", "\0", "😀"]
)
def test_awkward_texts_read_back(label: str) -> None:
    assert list(topic_of(f"      {yaml_text(label + 'x')}: ''\n      other: ''\n").labels) == [label + "x", "other"]


def only_job_file_error(text: str) -> None:
    with suppress(JobFileError):
        parse_job(text, env={})


@given(st.text(max_size=200))
def test_any_text_is_a_job_or_refused(text: str) -> None:
    only_job_file_error(text)


@given(st.text(alphabet="-:{}[]!&*?|>'\"%@`#, \n\tabk01~<=.$\\xU", max_size=60))
@settings(max_examples=300)
def test_any_text_of_yaml_signs_is_a_job_or_refused(text: str) -> None:
    only_job_file_error(text)
    only_job_file_error(HEAD + "    labels: " + text)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
GOOD = yaml.safe_load((HERE / "good_job.yaml").read_text(encoding="utf-8"))


@given(st.data())
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
def test_a_good_job_with_any_value_put_in_any_place_is_a_job_or_refused(data: st.DataObject) -> None:
    job = yaml.safe_load(yaml.safe_dump(GOOD))
    place = job
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not (isinstance(place[key], dict | list) and place[key] and data.draw(st.booleans())):
            break
        place = place[key]
    place[key] = data.draw(VALUES)
    only_job_file_error(yaml.safe_dump(job, allow_unicode=True))


def test_rows_are_drawn_for_a_promise_only() -> None:
    columns = "columns:\n  - {{task: classify, name: topic, from: [text], labels: [a, b]{}}}\n"
    shop = "source: {{path: /t}}\nkey: [id]\nmodel: smollm2\n{}\n" + columns
    promised = "accept: {precision: 0.9}\nreview: {top_up: 20, spread: true}"
    assert parse_job(shop.format(promised, "")).review.top_up == 20
    with pytest.raises(JobFileError, match="draws rows for a promise, and none is made"):
        parse_job(shop.format("review: {top_up: 20}", ""))
    with pytest.raises(JobFileError, match="top_up"):
        parse_job(shop.format("accept: {precision: 0.9}\nreview: {top_up: 0}", ""))
    examples = parse_job(shop.format("accept: 0.5", ", examples: {reviewed: 7, k: 2}")).columns[0].examples
    assert isinstance(examples, ReviewedExamples)
    with pytest.raises(JobFileError, match=r"columns\[0\]\.examples\.reviewed"):
        parse_job(shop.format("accept: 0.5", ", examples: {reviewed: soon}"))
