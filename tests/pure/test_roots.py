"""Paths stay under the roots that the operator configures, whatever a file says."""

from pathlib import Path

import pytest

from jobs import lake
from schemas.errors import JobFileError
from schemas.mix import MixFile
from schemas.roots import VARIABLE, check_path, outside
from schemas.train import TrainFile
from schemas.yaml_file import parse_file, parse_job

JOB = """\
source: {{path: {source}}}
key: [id]
target: {{path: {target}}}
store: {store}
model: {{path: {model}}}
engine: {{python: {python}}}
columns:
  - task: classify
    name: topic
    from: [text]
    labels: {{from_table: {labels}, column: name}}
"""
FIELDS = ("source", "target", "store", "model", "python", "labels")


@pytest.mark.parametrize(
    ("path", "is_inside"),
    [
        ("/data/t", True),
        ("/data", True),
        ("file:/data/t", True),
        ("file:///data/t", True),
        ("/data/../etc/t", False),
        ("/database/t", False),
        ("relative/t", False),
        ("s3://bucket/lake/t", True),
        ("s3://bucket/lake/../secret", False),
        ("s3://bucket/lakes/t", False),
        ("s3://other/lake/t", False),
        ("s3a://bucket/lake/t", False),
        ("dbfs:/Volumes/main/t", True),
        ("dbfs:/Volumes/../t", False),
        ("hdfs:/data/t", False),
    ],
)
def test_a_path_lies_under_a_root_of_its_own_kind_or_is_refused(path: str, is_inside: bool) -> None:
    roots = {VARIABLE: "/data, s3://bucket/lake,dbfs:/Volumes"}
    assert (outside(path, roots) == "") is is_inside
    assert outside(path, {}) == ""


def test_a_path_with_a_nul_is_refused_in_words() -> None:
    with pytest.raises(JobFileError, match="holds a NUL"):
        check_path("/data/a\0b", {})


def test_a_link_out_of_the_root_leads_out(tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "link").symlink_to("/")
    roots = {VARIABLE: str(tmp_path / "lake")}
    assert outside(f"{tmp_path}/lake/t", roots) == ""
    assert "lies outside" in outside(f"{tmp_path}/lake/link/etc", roots)


@pytest.mark.parametrize("field", FIELDS)
def test_every_path_of_a_job_file_is_looked_at(field: str) -> None:
    inside = {name: f"/data/{name}" for name in FIELDS}
    roots = {VARIABLE: "/data"}
    parse_job(JOB.format(**inside), env=roots)
    with pytest.raises(JobFileError, match=rf"job\.yaml:\d+:\d+: .*/etc/{field} lies outside") as told:
        parse_job(JOB.format(**inside | {field: f"/etc/{field}"}), env=roots)
    assert str(told.value).count("\n") == 0


def test_the_paths_of_other_files_and_of_options_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "/data")
    train = "model: smollm2-untuned\ndata: {path: /data/m}\noutput: /etc/o\n"
    train += "method: full\nstages: [{steps: 1, batch: 1, learning_rate: 0.1}]\n"
    with pytest.raises(JobFileError, match="output: /etc/o lies outside"):
        parse_file(train, TrainFile, file="train.yaml")
    mix = "model: smollm2\noutput: {path: /data/m}\nsources: [{kind: prompts, name: a, file: /etc/passwd.jsonl}]\n"
    with pytest.raises(JobFileError, match=r"/etc/passwd\.jsonl lies outside"):
        parse_file(mix, MixFile, file="mix.yaml")
    with pytest.raises(JobFileError, match="/etc/truth lies outside"):
        lake.place_of("/etc/truth")
    assert lake.place_of("shop.truth").table == "shop.truth"
