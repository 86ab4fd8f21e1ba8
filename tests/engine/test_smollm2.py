"""The embedded model: converted once from its package's weights file, the same as transformers reads it."""

import json

import numpy as np
import pytest
from safetensors import safe_open
from tokenizers import Tokenizer

from schemas.job import ModelRef
from udfs.models import embedded_file, stage, staged_folder


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    return stage(ModelRef(name="smollm2-untuned"), cache=tmp_path_factory.mktemp("cache"))


def test_staging_again_finds_the_same_model(staged):
    cache = staged.folder.parents[1]
    assert staged_folder(ModelRef(name="smollm2-untuned"), cache=cache) == staged.folder
    assert stage(ModelRef(name="smollm2-untuned"), cache=cache, expect_digest=staged.digest) == staged
    assert staged.name == "SmolLM2-135M-Instruct"


def test_the_folder_is_what_vllm_loads(staged):
    config = json.loads((staged.folder / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert "quantization_config" not in config
    assert json.loads((staged.folder / "tokenizer_config.json").read_text())["chat_template"]
    with safe_open(staged.folder / "model.safetensors", "numpy") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"F32"}  # noqa: SIM118 - no mapping


def test_weights_and_config_equal_what_transformers_reads(staged):
    transformers = pytest.importorskip("transformers")
    source = embedded_file()
    wanted = transformers.AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name)
    got = transformers.AutoConfig.from_pretrained(staged.folder)
    for name in ("hidden_size", "num_key_value_heads", "head_dim", "rms_norm_eps", "rope_parameters", "vocab_size"):
        assert getattr(got, name) == getattr(wanted.config, name), name
    with safe_open(staged.folder / "model.safetensors", "numpy") as file:
        names = set(file.keys())
        tensors = {name: value for name, value in wanted.state_dict().items() if name != "lm_head.weight"}
        assert names == set(tensors)
        worst = max(float(np.abs(file.get_tensor(name) - tensors[name].numpy()).max()) for name in names)
    assert worst < 1e-6


def test_text_survives_the_tokenizer_and_digits_stand_alone(staged):
    tokenizer = Tokenizer.from_file(str(staged.folder / "tokenizer.json"))
    for text in ("Parcel 4711 is late!", "Grüße, 你好 👋", "  two  spaces\n\n2024-11-22"):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text
    # Two spaces before a digit stay together: the digit is split off before spaces are looked at.
    assert tokenizer.encode("a  2024").tokens == ["a", "ĠĠ", "2", "0", "2", "4"]
    assert tokenizer.encode("<|im_start|>").ids == [1]
