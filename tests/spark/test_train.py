"""`burnish train` on real processes: it learns, it goes on where a kill left it, and it hands on what can be served."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pyspark.sql import SparkSession
from safetensors.torch import load_file as load_tensors
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from jobs.loss import steps_of
from jobs.mix import mix
from jobs.mix_files import load_mix
from jobs.train import show, train
from jobs.trained_on import mixtures_of
from schemas.errors import DataContractError, JobFileError
from schemas.job import ModelRef
from schemas.train import TrainFile
from schemas.yaml_file import load_file
from tests.pure.tiny_model import write_model
from udfs.models import stage
from udfs.tokens import load_tokens

STEPS = 50


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small model with weights."""
    folder = write_model(tmp_path_factory.mktemp("base"))
    words = load_tokens(str(folder))
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=512, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, eos_token_id=words.eos_ids[0], tie_word_embeddings=True,
        initializer_range=0.2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def mixture(spark: SparkSession, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixture")
    content = {
        "model": {"path": str(base)},
        "longest": 256,
        "output": {"path": str(folder / "table")},
        "sources": [{"kind": "generated", "name": "units", "pairs": "units", "rows": 200, "licence": "ours"}],
    }
    (folder / "mix.yaml").write_text(json.dumps(content))
    mix(spark, load_mix(folder / "mix.yaml"))
    return folder / "table"


def declared(base: Path, mixture: Path, output: Path, *, name: str = "", **changes: Any) -> Path:
    stages = [{"steps": STEPS, "batch": 2, "learning_rate": 0.01, "longest": 256}]
    content = {
        "model": {"path": str(base)},
        "data": {"path": str(mixture)},
        "output": str(output),
        "precision": "float32",
        "checkpoint_every": 10,
        "stages": stages,
    }
    file = output.with_name(f"{name or output.name}.yaml")
    file.write_text(yaml.safe_dump(content | changes))
    return file


def losses(output: Path, stages: int = 1) -> list[float]:
    return [step.loss for step in steps_of(output, stages)]


@pytest.fixture(scope="module")
def trained(spark: SparkSession, base: Path, mixture: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train once without a break."""
    output = tmp_path_factory.mktemp("trained") / "out"
    result = train(spark, load_file(declared(base, mixture, output), TrainFile))
    assert result.data["units"].licence == "ours"
    assert result.data["units"].rows > 150
    assert result.data["units"].left_out == 0
    return output


def test_loss_falls_and_the_curve_is_drawn(trained: Path) -> None:
    found = losses(trained)
    assert len(found) == STEPS
    assert sum(found[-10:]) < 0.8 * sum(found[:10])
    assert (trained / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_a_killed_training_goes_on_with_the_same_curve(
    trained: Path, base: Path, mixture: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    file = declared(base, mixture, output)
    command = [sys.executable, "-m", "jobs.cli", "train", str(file)]
    began = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    wait_for(lambda: (output / "stages/1/checkpoint-20/complete").exists(), began)
    os.killpg(began.pid, signal.SIGKILL)
    began.wait()
    assert not (output / "stages/1/final").exists()
    again = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    told = json.loads(again.stdout)
    assert told["last_step"]["step"] == STEPS
    lines = (output / "stages/1/log.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines if line.endswith("}")]
    assert len(steps) > STEPS or steps == list(range(1, STEPS + 1))
    assert steps.count(1) == 1, "it began anew"
    assert losses(output) == pytest.approx(losses(trained), abs=1e-5)


def wait_for(ready: Any, process: subprocess.Popen[str]) -> None:
    limit = time.monotonic() + 240
    while not ready():
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < limit
        time.sleep(0.05)


def test_the_adapter_is_served_as_trained(trained: Path, base: Path) -> None:
    adapter = trained / "adapter"
    assert all(one.dtype == torch.float16 for one in load_tensors(adapter / "adapter_model.safetensors").values())
    card = json.loads((adapter / "burnish.json").read_text())
    assert card["tuned"] is True
    told = (adapter / "README.md").read_text()
    assert "| units | ours |" in told
    assert str(base.parent) not in (adapter / "adapter_config.json").read_text().replace(str(base), "")
    staged = stage(ModelRef(path=str(base), adapter=str(adapter)))
    assert stage(ModelRef(path=str(base), adapter=str(adapter))) == staged
    assert staged.digest != stage(ModelRef(path=str(base))).digest
    from peft import PeftModel

    merged = AutoModelForCausalLM.from_pretrained(staged.folder)
    beside = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter)
    ids = torch.arange(5, 60)[None]
    with torch.no_grad():
        assert torch.allclose(merged(ids).logits, beside(ids).logits, atol=1e-4)
        plain = AutoModelForCausalLM.from_pretrained(base)(ids).logits
    assert not torch.allclose(plain, merged(ids).logits, atol=1e-2)


def test_an_adapter_is_trained_further(
    spark: SparkSession, trained: Path, base: Path, mixture: Path, tmp_path: Path
) -> None:
    model = {"path": str(base), "adapter": str(trained / "adapter")}
    stages = [{"steps": 4, "batch": 2, "learning_rate": 0.001, "longest": 256}]
    file = declared(base, mixture, tmp_path / "out", model=model, stages=stages)
    result = train(spark, load_file(file, TrainFile))
    # the same first rows, by what the first training has learned
    assert max(losses(tmp_path / "out")) < min(losses(trained)[:4])
    further = stage(ModelRef(path=str(base), adapter=result.product))
    assert further.digest != stage(ModelRef.model_validate(model)).digest
    assert mixtures_of(ModelRef(path=str(base), adapter=result.product)) == ((str(mixture), 0),)
    other = declared(base, mixture, tmp_path / "other", model=model, stages=stages, lora={"rank": 4})
    with pytest.raises(JobFileError, match="rank 16 and alpha 32"):
        train(spark, load_file(other, TrainFile))


def test_two_stages_on_two_processes_train_the_whole_model(
    spark: SparkSession, base: Path, mixture: Path, tmp_path: Path
) -> None:
    stages = [
        {"steps": 3, "batch": 4, "learning_rate": 0.01, "longest": 256},
        {"steps": 2, "batch": 2, "accumulation": 2, "learning_rate": 0.001, "schedule": "linear", "longest": 240},
    ]
    output = tmp_path / "out"
    file = load_file(declared(base, mixture, output, stages=stages, method="full", processes=2), TrainFile)
    result = train(spark, file)
    assert [step.stage for step in result.steps] == [1, 1, 1, 2, 2]
    product = Path(result.product)
    assert stage(ModelRef(path=str(product))).folder == product
    assert mixtures_of(ModelRef(path=str(product))) == ((str(mixture), 0),)
    assert train(spark, file).steps == result.steps, "what is done is not done again"


def test_what_is_learned_is_shown_token_by_token(
    spark: SparkSession, base: Path, mixture: Path, tmp_path: Path
) -> None:
    found = show(spark, load_file(declared(base, mixture, tmp_path / "out"), TrainFile), 3)
    assert len(found.rows) == 3
    for _, tokens in found.rows:
        learned = "".join(piece for piece, is_learned in tokens if is_learned)
        whole = "".join(piece for piece, _ in tokens)
        assert learned
        assert learned.endswith("<|end|>")
        assert whole.endswith(learned)
    assert not (tmp_path / "out").exists()


def test_another_training_does_not_go_on_in_the_same_folder(
    spark: SparkSession, trained: Path, base: Path, mixture: Path
) -> None:
    file = load_file(declared(base, mixture, trained, name="other", seed=5), TrainFile)
    with pytest.raises(JobFileError, match="other settings: seed"):
        train(spark, file)


def test_a_table_that_is_no_mixture_is_refused(spark: SparkSession, base: Path, tmp_path: Path) -> None:
    spark.range(3).write.format("delta").save(str(tmp_path / "table"))
    file = load_file(declared(base, tmp_path / "table", tmp_path / "out"), TrainFile)
    with pytest.raises(DataContractError, match="burnish mix did not write"):
        train(spark, file)
