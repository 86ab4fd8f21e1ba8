"""Model folders made on the spot: a llama of any shape with random weights, and the embedded model's tokenizer."""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from schemas.job import ModelRef
from udfs.models import stage

TINY = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 49_152,
    "tie_word_embeddings": True,
}
EIGHT_B = {
    "hidden_size": 4096,
    "intermediate_size": 14_336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 128_256,
    "tie_word_embeddings": False,
    "dtype": "bfloat16",
}
COMMON = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_theta": 100_000.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "dtype": "float32",
}


def write_model(folder: Path, shape: Mapping[str, object], *, weights: bool) -> Path:
    """Write config, tokenizer and (unless an engine is to make them up) random weights; return the folder."""
    embedded = stage(ModelRef(name="smollm2")).folder
    folder.mkdir(parents=True, exist_ok=True)
    for file in embedded.iterdir():
        if file.suffix != ".safetensors" and file.name != "config.json":
            shutil.copyfile(file, folder / file.name)
    (folder / "config.json").write_text(json.dumps({**COMMON, **shape}))
    if weights:
        draw = np.random.default_rng(7)
        tensors = {name: _filled(draw, size) for name, size in _tensors({**TINY, **shape})}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _filled(draw: np.random.Generator, size: tuple[int, ...]) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    if len(size) == 1:
        return np.ones(size, dtype=np.float32)
    return draw.normal(0.0, 0.2, size).astype(np.float32)


def _tensors(shape: Mapping[str, object]) -> Iterator[tuple[str, tuple[int, ...]]]:
    numbers = {name: int(value) for name, value in shape.items() if isinstance(value, int)}
    hidden, inner, head = numbers["hidden_size"], numbers["intermediate_size"], numbers["head_dim"]
    queries, keys = numbers["num_attention_heads"] * head, numbers["num_key_value_heads"] * head
    yield "model.embed_tokens.weight", (numbers["vocab_size"], hidden)
    yield "model.norm.weight", (hidden,)
    for layer in range(numbers["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        yield f"{at}.input_layernorm.weight", (hidden,)
        yield f"{at}.post_attention_layernorm.weight", (hidden,)
        yield f"{at}.self_attn.q_proj.weight", (queries, hidden)
        yield f"{at}.self_attn.k_proj.weight", (keys, hidden)
        yield f"{at}.self_attn.v_proj.weight", (keys, hidden)
        yield f"{at}.self_attn.o_proj.weight", (hidden, queries)
        yield f"{at}.mlp.gate_proj.weight", (inner, hidden)
        yield f"{at}.mlp.up_proj.weight", (inner, hidden)
        yield f"{at}.mlp.down_proj.weight", (hidden, inner)
