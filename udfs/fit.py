"""Tell from a model's files alone whether it fits into memory, before any weight is loaded."""

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

_GIB = 1024**3
# Bytes a value takes as stored; whole numbers and 8-bit floats are quantised weights, served as they are.
_STORED_BYTES = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2, "I64": 8, "I32": 4, "I16": 2}
_SERVED_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "half": 2, "float": 4}
_PLAIN_FLOATS = frozenset({"F64", "F32", "BF16", "F16"})
# What an engine holds beside weights and key-value cache: activations, graphs, the CUDA context.
_OVERHEAD_SHARE = 0.1
_OVERHEAD_BYTES = 512 * 1024**2


@dataclass(frozen=True)
class Fit:
    """How a model's needs compare with the memory that is there, all in bytes."""

    weights_bytes: int
    kv_bytes_per_token: int
    needed_bytes: int
    memory_bytes: int
    full_sequences: int
    wanted_sequences: int

    @property
    def ok(self) -> bool:
        """Whether the weights and one sequence of full length fit."""
        return self.full_sequences >= 1

    @property
    def sentence(self) -> str:
        """One line for people."""
        weights, memory = self.weights_bytes / _GIB, self.memory_bytes / _GIB
        if not self.ok:
            return f"needs {self.needed_bytes / _GIB:.1f} GiB ({weights:.1f} of weights), {memory:.1f} GiB are there"
        rows = min(self.full_sequences, self.wanted_sequences)
        return f"weights take {weights:.1f} of {memory:.1f} GiB; {rows} rows of full length at once"


def fits(
    folder: Path,
    *,
    memory_bytes: int,
    max_model_len: int,
    max_num_seqs: int,
    dtype: str = "auto",
    tensor_parallel_size: int = 1,
) -> Fit:
    """Estimate whether the model in `folder`, served as `dtype`, fits into `memory_bytes` of each of its devices.

    Counts weights from the safetensors headers and keys and values of every layer; sliding windows and
    compressed caches would need less.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    text_config = config.get("text_config", config)
    served = dtype if dtype != "auto" else str(text_config.get("dtype") or text_config.get("torch_dtype") or "bfloat16")
    value_bytes = _SERVED_BYTES.get(served.removeprefix("torch."), 2)
    weights = sum(_weights_bytes(path, value_bytes) for path in weights_files(folder)) // tensor_parallel_size
    per_token = _kv_values_per_token(text_config, tensor_parallel_size) * value_bytes
    fixed = weights + int(weights * _OVERHEAD_SHARE) + _OVERHEAD_BYTES
    one_sequence = per_token * max_model_len
    return Fit(
        weights_bytes=weights,
        kv_bytes_per_token=per_token,
        needed_bytes=fixed + one_sequence,
        memory_bytes=memory_bytes,
        full_sequences=max(0, memory_bytes - fixed) // max(1, one_sequence),
        wanted_sequences=max_num_seqs,
    )


def weights_files(folder: Path) -> list[Path]:
    """The files that an engine loads: those of the index where there is one, and all safetensors otherwise."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        named = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        return [folder / name for name in sorted(set(named))]
    return sorted(folder.glob("*.safetensors"))


def _kv_values_per_token(config: dict[str, Any], devices: int) -> int:
    heads = config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads") or heads
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    # heads are dealt out whole; where there are fewer than devices, some are held twice
    return int(2 * config["num_hidden_layers"] * -(-kv_heads // devices) * head_dim)


def _weights_bytes(path: Path, value_bytes: int) -> int:
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    tensors = (tensor for name, tensor in header.items() if name != "__metadata__")
    return sum(
        prod(tensor["shape"]) * (value_bytes if tensor["dtype"] in _PLAIN_FLOATS else _stored_bytes(tensor["dtype"]))
        for tensor in tensors
    )


def _stored_bytes(dtype: str) -> int:
    return _STORED_BYTES.get(dtype, 1)
