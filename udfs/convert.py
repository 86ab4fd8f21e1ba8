"""Turn a llama-shaped GGUF file into what vLLM loads: float32 safetensors, config, tokenizer, chat template.

Done with the file's own reader and numpy: no model is built, so neither torch nor transformers is needed.
"""

import json
from pathlib import Path
from typing import Any

from schemas.errors import EnvironmentProblem

_LAYER_PARTS = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
_TOP_PARTS = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_CONTROL = 3  # tokenizer.ggml.token_type of tokens that no text may spell


def convert(gguf_file: Path, folder: Path) -> None:
    """Write `model.safetensors`, config, tokenizer and chat template of `gguf_file` into `folder`.

    Raises:
        EnvironmentProblem: The file's architecture or tokenizer is not the one this converter knows.
    """
    import gguf
    from safetensors.numpy import save_file

    reader = gguf.GGUFReader(gguf_file)
    field = _Fields(reader)
    if field("general.architecture") != "llama" or field("tokenizer.ggml.model") != "gpt2":
        raise EnvironmentProblem(f"{gguf_file.name} is no llama-shaped model with a byte-level tokenizer")
    tensors = _tensors(reader, field("llama.attention.head_count"), field("llama.attention.head_count_kv"))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    _write_json(folder / "config.json", _config(field, tied="lm_head.weight" not in tensors))
    _write_tokenizer(field, folder)


class _Fields:
    """The metadata of a GGUF file, by key."""

    def __init__(self, reader: Any) -> None:
        self._fields = reader.fields

    def __call__(self, key: str) -> Any:
        return self._fields[key].contents()


def _tensors(reader: Any, heads: int, kv_heads: int) -> dict[str, Any]:
    from gguf.quants import dequantize

    tensors = {}
    for tensor in reader.tensors:
        weights = dequantize(tensor.data, tensor.tensor_type)
        if ".attn_q." in tensor.name:
            weights = _halves_apart(weights, heads)
        elif ".attn_k." in tensor.name:
            weights = _halves_apart(weights, kv_heads)
        tensors[_tensor_name(tensor.name)] = weights
    return tensors


def _halves_apart(weights: Any, heads: int) -> Any:
    """Undo GGUF's interleaving: rotary pairs lie half a head apart in safetensors, side by side in GGUF."""
    pairs = weights.reshape(heads, weights.shape[0] // heads // 2, 2, *weights.shape[1:])
    return pairs.swapaxes(1, 2).reshape(weights.shape).copy()


def _tensor_name(name: str) -> str:
    if not name.startswith("blk."):
        part, kind = name.split(".")
        return f"{_TOP_PARTS[part]}.{kind}"
    _, layer, part, kind = name.split(".")
    return f"model.layers.{layer}.{_LAYER_PARTS[part]}.{kind}"


def _config(field: _Fields, *, tied: bool) -> dict[str, Any]:
    theta = field("llama.rope.freq_base")
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "bos_token_id": field("tokenizer.ggml.bos_token_id"),
        "dtype": "float32",
        "eos_token_id": field("tokenizer.ggml.eos_token_id"),
        "head_dim": field("llama.rope.dimension_count"),
        "hidden_act": "silu",
        "hidden_size": field("llama.embedding_length"),
        "intermediate_size": field("llama.feed_forward_length"),
        "max_position_embeddings": field("llama.context_length"),
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": field("llama.attention.head_count"),
        "num_hidden_layers": field("llama.block_count"),
        "num_key_value_heads": field("llama.attention.head_count_kv"),
        "pad_token_id": field("tokenizer.ggml.padding_token_id"),
        "rms_norm_eps": field("llama.attention.layer_norm_rms_epsilon"),
        # Readers before and after transformers 5 look for the rotary base in different places.
        "rope_parameters": {"rope_theta": theta, "rope_type": "default"},
        "rope_theta": theta,
        "tie_word_embeddings": tied,
        "torch_dtype": "float32",
        "vocab_size": field("llama.vocab_size"),
    }


def _write_tokenizer(field: _Fields, folder: Path) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens = field("tokenizer.ggml.tokens")
    merges = [tuple(pair.split(" ", 1)) for pair in field("tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    bytes_apart = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    # SmolLM was trained with every digit a token of its own, split off before spaces are looked at.
    splitters = {"smollm": [pre_tokenizers.Digits(individual_digits=True), bytes_apart]}
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(splitters.get(field("tokenizer.ggml.pre"), [bytes_apart]))
    tokenizer.decoder = decoders.ByteLevel()
    kinds = field("tokenizer.ggml.token_type")
    control = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in control])
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {name: field(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos", "unknown", "padding")}
    _write_json(
        folder / "tokenizer_config.json",
        {
            "bos_token": tokens[special["bos"]],
            "chat_template": field("tokenizer.chat_template"),
            "clean_up_tokenization_spaces": False,
            "eos_token": tokens[special["eos"]],
            "model_max_length": field("llama.context_length"),
            "pad_token": tokens[special["padding"]],
            "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": tokens[special["unknown"]],
        },
    )
    ids = {"bos_token_id": special["bos"], "eos_token_id": special["eos"], "pad_token_id": special["padding"]}
    _write_json(folder / "generation_config.json", ids)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
