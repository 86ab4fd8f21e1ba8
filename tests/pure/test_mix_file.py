"""Mix files: what is refused, in which words, before Spark starts; and the command that reads them."""

import json
import sys
from pathlib import Path

import pytest

from jobs.cli import main
from jobs.mix_files import load_mix
from schemas.errors import JobFileError
from schemas.mix import Generated, Instructions, MixFile
from schemas.yaml_file import parse_file
from udfs.mixture import row_of, seeded

GOOD = """\
model: smollm2
form: tulu
output: {path: /data/mixture}
sources:
  - {kind: instructions, name: dolly, file: dolly.json, split_by: [a, [b, c]]}
  - {kind: generated, name: dates, pairs: dates, rows: 3}
held_out:
  - {file: test.csv, split_by: [text]}
"""


def test_a_mix_file_reads_as_it_is_written() -> None:
    found = parse_file(GOOD, MixFile, file="mix.yaml", env={})
    dolly, dates = found.sources
    assert isinstance(dolly, Instructions)
    assert dolly.split_by == (("a",), ("b", "c"))
    assert (dolly.rows, dolly.weight, dolly.place) == (None, 1.0, None)
    assert isinstance(dates, Generated)
    assert (found.longest, found.seed, found.held_out[0].passages) == (2048, 0, False)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("form: tulu", "form: tulip", "2:7: form: takes one of template, tulu, completion; got the text 'tulip' (did"),
        ("kind: generated, ", "", "6:5: sources[1].kind: is missing; it takes one of job, reviewed, instructions"),
        (
            "kind: generated",
            "kind: generate",
            "6:12: sources[1].kind: takes one of job, reviewed, instructions, conversations",
        ),
        ("pairs: dates, ", "", "6:5: sources[1].pairs: is missing"),
        ("pairs: dates", "pairs: date", "sources[1].pairs: takes one of dates, phones, units, casing, typos, records"),
        ("rows: 3", "rows: 0", "sources[1].rows: "),
        ("rows: 3", "row: 3", "sources[1].row: unknown key (did you mean rows?); known are name, rows, weight"),
        ("name: dates", "name: Dolly", "6:29: sources[1].name: sources[0] has this name too; rename one"),
        ("name: dates", "name: a b", "sources[1].name: takes letters, digits and underscores"),
        ("dolly.json", "dolly.txt", "5:45: sources[0].file: takes a file that ends in .json, .jsonl, .csv or .parquet"),
        ("file: dolly.json", "table: a.b.c.d", "sources[0].table: takes a name of one to three parts"),
        ("file: test.csv, ", "", "8:5: held_out[0]: rows come from one of `table`, `path` (a Delta folder) or `file`"),
        ("file: test.csv", "file: a.csv, path: b", "held_out[0]: rows come from one of"),
        ("file: test.csv", "path: /data/mixture/", "8:5: held_out[0]: is the output itself"),
        ("[text]", "text", "8:32: held_out[0].split_by: takes a list; got the text 'text'; write [text]"),
        ("[b, c]", "[b, 3]", "sources[0].split_by[1][1]: `3` without quotes is the number 3"),
        ("[text]", "[]", "held_out[0].split_by: must not be empty"),
        ("smollm2", "{endpoint: 'https://a', model: b}", "1:8: model: an endpoint has no tokens to train on"),
    ],
)
def test_a_bad_mix_file_is_refused_in_these_words(old: str, new: str, says: str) -> None:
    assert old in GOOD
    text = GOOD.replace(old, new, 1)
    with pytest.raises(JobFileError) as caught:
        parse_file(text, MixFile, file="mix.yaml", env={})
    assert says in str(caught.value)
    assert "README" in caught.value.hint


def test_a_job_that_a_mix_names_is_checked_with_it(tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text("source: {table: a}\nkey: [id]\nmodel: smollm2\ncolums: []\n")
    mix = tmp_path / "mix.yaml"
    source = {"kind": "job", "name": "tickets", "job": str(job), "truth": {"topic": "truth"}}
    mix.write_text(json.dumps({"model": "smollm2", "output": {"path": "x"}, "sources": [source]}))
    with pytest.raises(JobFileError, match=r"job\.yaml:4:1: colums: unknown key \(did you mean columns\?\)"):
        load_mix(mix)


def test_the_command_ends_with_2_and_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mix = tmp_path / "mix.yaml"
    mix.write_text(GOOD.replace("form: tulu", "form: tulip"))
    monkeypatch.setattr(sys, "argv", ["burnish", "mix", str(mix), "--check"])
    with pytest.raises(SystemExit) as caught:
        main()
    told = capsys.readouterr()
    assert (caught.value.code, told.out) == (2, "")
    assert f"{mix}:2:7: form: takes one of template, tulu, completion" in told.err


def test_a_seed_decides_and_another_one_decides_otherwise() -> None:
    assert seeded(1, "a").random() == seeded(1, "a").random()
    assert seeded(1, "a").random() != seeded(2, "a").random()
    # the figure is pinned: mixtures made before must come out the same
    assert seeded(0, "dolly_1").getrandbits(32) == 1_859_391_385


def test_a_record_that_teaches_nothing_says_why() -> None:
    record = {
        "dataset": "d",
        "copy": 0,
        "content": "0" * 64,
        "shape": "prompt",
        "texts": [" "],
        "answer": "x",
        "split_keys": [],
    }
    assert row_of(record, 0, None) == {"dataset": "d", "dropped": "odd_turns"}  # type: ignore[arg-type]
