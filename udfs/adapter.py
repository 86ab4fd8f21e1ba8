"""Adapters: written small and without anything that runs, and merged into a base model's weights for the replica."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

from schemas.card import CARD_FILE, ModelCard
from schemas.errors import EnvironmentProblem

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
PREFIX = "base_model.model."
# what a plain low-rank update is not
STRANGE = ("use_dora", "modules_to_save", "trainable_token_indices", "alora_invocation_tokens", "lora_bias")


def export(final: Path, target: Path, *, card: ModelCard, base: str, method: str, source: Path) -> None:
    """Write what training left as a folder to hand on: an adapter in float16, or a model with its tokenizer.

    Args:
        final: what the last stage saved.
        base: the base model as people name it, for adapters.
        source: the folder of the base model, whose tokenizer and template a whole model takes over.
    """
    target.mkdir(parents=True, exist_ok=True)
    if method == "lora":
        _export_adapter(final, target, base)
    else:
        # the base's index would name shards that this model does not have
        taken = [path for path in source.glob("*.json") if not path.name.endswith(".index.json")]
        for path in [*taken, *source.glob("*.jinja"), *final.glob("*.safetensors*")]:
            shutil.copyfile(path, target / path.name)
        shutil.copyfile(final / "config.json", target / "config.json")
    (target / CARD_FILE).write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _export_adapter(final: Path, target: Path, base: str) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    tensors = {name: tensor.to(torch.float16).contiguous() for name, tensor in load_file(final / WEIGHTS).items()}
    save_file(tensors, target / WEIGHTS, metadata={"format": "pt"})
    config = json.loads((final / CONFIG).read_text(encoding="utf-8"))
    # training ran on a staged copy, whose path means nothing elsewhere
    config["base_model_name_or_path"] = base
    (target / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def check_adapter(folder: Path) -> dict[str, Any]:
    """Return an adapter's configuration.

    Raises:
        EnvironmentProblem: the folder holds no adapter, or one of a kind that is not merged here.
    """
    if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
        raise EnvironmentProblem(
            f"{folder} holds no adapter", hint=f"`adapter:` takes a folder with {CONFIG} and {WEIGHTS}"
        )
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except ValueError as problem:
        raise EnvironmentProblem(f"{folder / CONFIG} is no JSON: {problem}") from problem
    strange = [name for name in STRANGE if config.get(name)]
    if config.get("peft_type") != "LORA" or strange or config.get("bias", "none") != "none":
        told = ", ".join(strange) or f"peft_type {config.get('peft_type')}, bias {config.get('bias')}"
        raise EnvironmentProblem(
            f"the adapter in {folder} is no plain LoRA: {told}", hint="merge it with peft, and name the merged folder"
        )
    return config


def rank_of(folder: Path) -> tuple[int, float]:
    """Return an adapter's rank and alpha, which a training that goes on from it must keep.

    Raises:
        EnvironmentProblem: the folder holds no adapter.
    """
    config = check_adapter(folder)
    return int(config["r"]), float(config["lora_alpha"])


def merge(base: Path, adapter: Path, folder: Path) -> None:
    """Write the base model with the adapter's update added to its weights; the card is the adapter's.

    Raises:
        EnvironmentProblem: the adapter belongs to another model.
    """
    from safetensors.torch import load_file, save_file

    updates = _updates(load_file(adapter / WEIGHTS), check_adapter(adapter))
    for path in base.iterdir():
        if path.suffix == ".safetensors":
            tensors = load_file(path)
            for name in updates.keys() & tensors.keys():
                tensors[name] = _added(tensors[name], *updates.pop(name), name=name)
            save_file(tensors, folder / path.name, metadata={"format": "pt"})
        elif path.is_file():
            shutil.copyfile(path, folder / path.name)
    if updates:
        raise EnvironmentProblem(f"the adapter in {adapter} changes {min(updates)}, which {base} does not have")
    if (adapter / CARD_FILE).is_file():
        shutil.copyfile(adapter / CARD_FILE, folder / CARD_FILE)


def _updates(tensors: dict[str, Any], config: dict[str, Any]) -> dict[str, tuple[Any, Any, float]]:
    """By the base's tensor: both factors and how strongly they count."""
    found = {}
    for name, low in tensors.items():
        if ".lora_A." not in name:
            continue
        high = tensors[name.replace(".lora_A.", ".lora_B.")]
        rank = low.shape[0]
        strength = config["lora_alpha"] / (math.sqrt(rank) if config.get("use_rslora") else rank)
        target = name.removeprefix(PREFIX).replace(".lora_A.", ".").replace(".default.", ".")
        found[target] = (low, high, strength)
    return found


def _added(weights: Any, low: Any, high: Any, strength: float, *, name: str) -> Any:
    if weights.shape != (high.shape[0], low.shape[1]):
        raise EnvironmentProblem(f"the adapter's {name} does not fit the base model: it belongs to another one")
    return (weights.float() + strength * (high.float() @ low.float())).to(weights.dtype).contiguous()
