"""Adapters: merged to the last digit, and refused where they are something else."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from schemas.card import CARD_FILE, ModelCard
from schemas.errors import EnvironmentProblem
from schemas.job import ModelRef
from tests.pure.tiny_model import write_model
from udfs.adapter import CONFIG, WEIGHTS, check_adapter, merge
from udfs.cards import card_of
from udfs.models import stage

TARGET = "model.layers.0.self_attn.q_proj"


def base(folder: Path) -> Path:
    folder.mkdir()
    write_model(folder)
    tensors = {f"{TARGET}.weight": torch.arange(12.0).reshape(3, 4), "model.norm.weight": torch.ones(4)}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def adapter(folder: Path, *, target: str = TARGET, wide: int = 4, **config: Any) -> Path:
    folder.mkdir()
    low, high = torch.full((2, wide), 0.5), torch.full((3, 2), 2.0)
    names = {f"base_model.model.{target}.lora_{part}.weight": one for part, one in (("A", low), ("B", high))}
    save_file(names, folder / WEIGHTS)
    declared = {"peft_type": "LORA", "lora_alpha": 8, "r": 2, "bias": "none", "base_model_name_or_path": "b"}
    (folder / CONFIG).write_text(json.dumps(declared | config))
    (folder / CARD_FILE).write_text(ModelCard(prompt="completion", tuned=True).model_dump_json())
    return folder


def test_the_update_counts_alpha_over_rank_times(tmp_path: Path) -> None:
    merged = tmp_path / "merged"
    merged.mkdir()
    merge(base(tmp_path / "base"), adapter(tmp_path / "adapter"), merged)
    found = load_file(merged / "model.safetensors")
    # 8 / 2 times (2.0 * 0.5 + 2.0 * 0.5)
    assert torch.equal(found[f"{TARGET}.weight"], torch.arange(12.0).reshape(3, 4) + 8.0)
    assert torch.equal(found["model.norm.weight"], torch.ones(4))
    assert (merged / "tokenizer.json").is_file()


def test_a_staged_model_with_an_adapter_has_the_adapter_s_card(tmp_path: Path) -> None:
    ref = ModelRef(path=str(base(tmp_path / "base")), adapter=str(adapter(tmp_path / "adapter")))
    staged = stage(ref, cache=tmp_path / "cache")
    assert staged.folder.parent == tmp_path / "cache" / "models"
    assert card_of(ref, staged.folder).prompt == "completion"
    assert stage(ref, cache=tmp_path / "cache").digest == staged.digest
    other = adapter(tmp_path / "other", lora_alpha=16)
    assert stage(ref.model_copy(update={"adapter": str(other)}), cache=tmp_path / "cache").digest != staged.digest


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"use_dora": True}, "no plain LoRA: use_dora"),
        ({"modules_to_save": ["lm_head"]}, "no plain LoRA: modules_to_save"),
        ({"peft_type": "IA3"}, "no plain LoRA: peft_type IA3"),
        ({"bias": "all"}, "bias all"),
    ],
)
def test_what_is_no_plain_lora_is_refused(tmp_path: Path, config: dict[str, Any], says: str) -> None:
    with pytest.raises(EnvironmentProblem, match=says):
        check_adapter(adapter(tmp_path / "adapter", **config))


def test_another_model_s_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="does not fit the base model"):
        merge(base(tmp_path / "base"), adapter(tmp_path / "wide", wide=5), tmp_path)
    with pytest.raises(EnvironmentProblem, match="does not have"):
        merge(tmp_path / "base", adapter(tmp_path / "else", target="model.layers.7.mlp.up_proj"), tmp_path)


def test_a_folder_without_an_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="holds no adapter"):
        stage(ModelRef(path=str(base(tmp_path / "base")), adapter=str(tmp_path)))
