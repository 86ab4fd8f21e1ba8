"""Folders with tokenizers of a few hundred tokens and a chat template, made on the spot."""

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

CONTROL = ["<|end|>", "<|start|>", "<|spare|>"]
TEMPLATE = (
    "{% for message in messages %}<|start|>{{ message['role'] }}\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
TEXT = [
    "Choose the label that fits the text. Label: refund delivery other yes no null",
    "Correct the value of phone. the customer wants money back where the parcel is",
    '{"order_id": "AB123456", "bought_on": null, "items": ["lamp", "chair"]}',
]


def write_model(folder: Path, *, template: str = TEMPLATE) -> Path:
    """Write tokenizer, configuration and template; there are no weights."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=CONTROL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT * 4, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"eos_token": "<|end|>", "bos_token": "<|start|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text(json.dumps({"eos_token_id": 0}))
    if template:
        (folder / "chat_template.jinja").write_text(template)
    return folder


def write_sentencepiece_model(folder: Path, *, prepends: bool) -> Path:
    """Write a tokenizer in SentencePiece's manner: blanks as U+2581, unknown characters as bytes."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    blanks = normalizers.Replace(" ", "\u2581")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), blanks]) if prepends else blanks
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    special = ["<unk>", "<s>", "</s>", "[INST]"]
    single = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=[*special, *single], show_progress=False)
    tokenizer.train_from_iterator(TEXT * 4, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    declared = json.loads((folder / "tokenizer.json").read_text())
    declared["added_tokens"] = [token for token in declared["added_tokens"] if token["content"] in special]
    (folder / "tokenizer.json").write_text(json.dumps(declared))
    config = {"eos_token": "</s>", "bos_token": "<s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder
