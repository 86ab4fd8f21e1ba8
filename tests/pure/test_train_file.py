"""Train and suite files: what they may hold, and the recipes that stand beside the code."""

from pathlib import Path

import pytest

from schemas.errors import JobFileError
from schemas.job import ModelRef
from schemas.suite import SuiteFile
from schemas.train import TrainFile
from schemas.yaml_file import load_file, parse_file

SUITE = Path(__file__).parents[1] / "suite"
GOOD = """model: smollm2
data: {path: /m}
output: /o
stages:
  - {steps: 10, batch: 4, learning_rate: 1.0e-3}
"""


def test_refuellm2_s_recipe_is_read_as_it_was_announced() -> None:
    found = load_file(SUITE / "refuellm2.yaml", TrainFile, {})
    first, second = found.stages
    assert (first.steps, first.longest, first.learning_rate, first.final) == (21_000, 4096, 1e-5, 0.1)
    assert first.batch * first.accumulation * found.processes == 32
    assert (second.steps, second.learning_rate, second.final) == (5000, 2e-6, 0.1)
    assert second.batch * second.accumulation * found.processes == 32
    assert second.longest > first.longest
    assert found.data_of(first) != found.data_of(second)


def test_the_files_of_the_embedded_adapter_are_read() -> None:
    env = {"BURNISH_SUITE": "/s", "BURNISH_DATA": "/d"}
    assert {load_file(path, TrainFile, env).method for path in SUITE.glob("train*.yaml")} == {"lora"}
    assert all(load_file(path, SuiteFile, env).sets for path in SUITE.glob("suite*.yaml"))
    suite = load_file(SUITE / "suite.yaml", SuiteFile, env)
    assert [model.text for model in suite.models] == ["smollm2", "smollm2-untuned"]
    unseen = {one.name for one in suite.sets if one.note == "never trained on"}
    assert unseen == {"restaurant8k", "fodors_zagats", "xquad_en", "flights", "transformations_unseen"}
    for mix in SUITE.glob("mix_*.yaml"):
        named = mix.read_text()
        sources = named.partition("held_out:")[0]
        assert not [name for name in unseen if f"name: {name}," in sources]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "model: smollm2",
            "model: {endpoint: 'http://x', model: m}",
            "1:8: model: an endpoint has no weights to train",
        ),
        ("steps: 10", "steps: 0", "5:13: stages[0].steps: "),
        ("batch: 4", "bach: 4", "stages[0].bach: unknown key (did you mean batch?)"),
        ("learning_rate: 1.0e-3", "learning_rate: 5", "stages[0].learning_rate: "),
        ("output: /o", "output: /o\nmethod: qlora", "4:9: method: takes one of lora, full"),
    ],
)
def test_a_bad_train_file_is_refused_in_these_words(old: str, new: str, says: str) -> None:
    assert parse_file(GOOD, TrainFile, file="train.yaml").stages[0].batch == 4
    with pytest.raises(JobFileError) as caught:
        parse_file(GOOD.replace(old, new), TrainFile, file="train.yaml")
    assert says in str(caught.value)


def test_a_set_stands_once_in_a_suite() -> None:
    text = "output: /o\nsets:\n" + "  - {name: a, job: j.yaml, truth: {x: y}}\n" * 2
    with pytest.raises(JobFileError, match="another set has this name"):
        parse_file(text, SuiteFile, file="suite.yaml")


def test_a_model_may_be_a_base_with_an_adapter() -> None:
    text = GOOD.replace("model: smollm2", "model: {base: smollm2-untuned, adapter: /a}")
    assert parse_file(text, TrainFile, file="t").model == ModelRef(name="smollm2-untuned", adapter="/a")
    text = GOOD.replace("model: smollm2", "model: {base: {path: /b}, adapter: /a}")
    found = parse_file(text, TrainFile, file="t").model
    assert found.text == "/b with /a"
