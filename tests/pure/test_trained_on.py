"""What a model's folder says of the mixtures that it has seen."""

from pathlib import Path

import pytest

from jobs.trained_on import mixtures_of, note_mixtures
from schemas.job import ModelRef, Place


def test_a_model_keeps_what_the_one_before_it_has_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    monkeypatch.chdir(tmp_path)
    note_mixtures(first, ModelRef(name="smollm2-untuned"), {Place(path="mix"): 3, Place(table="a.mix"): 0})
    seen = ((f"{tmp_path}/mix", 3), ("a.mix", 0))
    assert mixtures_of(ModelRef(path=str(first))) == seen
    note_mixtures(second, ModelRef(path=str(first)), {Place(path=f"{tmp_path}/mix"): 3, Place(path="dbfs:/mix"): 1})
    assert mixtures_of(ModelRef(path=str(second))) == (*seen, ("dbfs:/mix", 1))


def test_of_a_model_from_elsewhere_nothing_is_known(tmp_path: Path) -> None:
    assert mixtures_of(ModelRef(path=str(tmp_path))) == ()
    assert mixtures_of(ModelRef(endpoint="http://localhost:8000", model="some")) == ()
