"""A model folder's tokenizer and chat template, loaded with `tokenizers` and jinja2 alone.

`transformers` would do the same and cost every Spark worker seconds of import.
"""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

from jinja2 import Template, TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from schemas.errors import EnvironmentProblem

CONTROL_LIKE = re.compile(r"^[<\[].*[>\]]$", re.DOTALL)
TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<|end|>", "<|endoftext|>", "<|end_of_text|>")
MARK = "\ue000burnish {}\ue001"
# Templates that print today's date would give each night another prompt.
FIXED_DAY = datetime(2025, 1, 1, tzinfo=UTC)
ANCHOR = "\n"


@lru_cache(maxsize=4)
def load_tokens(folder: str) -> "Tokens":
    """The tokens of a model folder, loaded once per process."""
    return Tokens(Path(folder))


def clean_text(text: str | None) -> str:
    """A cell's text as a tokenizer takes it: NUL and lone surrogates replaced, null as nothing."""
    if not text:
        return ""
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if not text.isascii() else text
    return whole.replace("\0", "\ufffd")


class Tokens:
    """Text to token ids and back, with the template's text and everybody else's kept apart."""

    def __init__(self, folder: Path) -> None:
        """Read tokenizer, configuration and template.

        Raises:
            EnvironmentProblem: the folder has no tokenizer.json, or a cell's text could forge a control token.
        """
        self.folder = folder
        declared = _json_of(folder / "tokenizer.json")
        if not declared:
            raise EnvironmentProblem(
                f"{folder} has no readable tokenizer.json.", hint="Save the model with its fast tokenizer."
            )
        self._config = _json_of(folder / "tokenizer_config.json")
        self._trusted = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._plain = Tokenizer.from_str(json.dumps(_with_control_marked(declared)))
        self._plain.encode_special_tokens = True
        self.control_ids = frozenset(added["id"] for added in declared.get("added_tokens", []) if _is_control(added))
        self._added = {added["id"]: added["content"] for added in declared.get("added_tokens", [])}
        self._is_byte_level = '"ByteLevel"' in json.dumps([declared.get("decoder"), declared.get("pre_tokenizer")])
        # Tokenizers after SentencePiece put a blank before whatever they are given; then text is encoded after a
        # line break, whose tokens are dropped again.
        self._needs_anchor = (
            b"".join(map(self.token_bytes, self._plain.encode("a", add_special_tokens=False).ids)) != b"a"
        )
        self._check_cells_stay_cells()
        # Tokens of the template before, between and after the messages of a whole conversation, by their roles; one
        # piece less where it takes no system message, as in `chat_frame`.
        self.turns_frame: Callable[[tuple[str, ...]], tuple[tuple[int, ...], ...]] = lru_cache(maxsize=256)(
            partial(self._framed, asks=False)
        )

    def encode_trusted(self, text: str) -> tuple[int, ...]:
        """Tokens of the template's own text: control tokens are recognised."""
        return tuple(self._trusted.encode(text, add_special_tokens=False).ids)

    def encode_cell(self, text: str) -> tuple[int, ...]:
        """Tokens of anybody else's text: what looks like a control token is spelled out."""
        if not text:
            return ()
        if self._needs_anchor:
            return self._after(ANCHOR, text)
        return tuple(self._plain.encode(text, add_special_tokens=False).ids)

    def _after(self, anchor: str, text: str) -> tuple[int, ...]:
        found = self._plain.encode(anchor + text, add_special_tokens=False)
        return tuple(token for token, (_, end) in zip(found.ids, found.offsets, strict=True) if end > len(anchor))

    def continues(self, before: str, text: str) -> bool:
        """Whether `before` and `text` tokenised apart are the tokens of both together."""
        apart = (*self.encode_cell(before), *self.encode_cell(text))
        return apart == self.encode_cell(before + text)

    def decode(self, ids: tuple[int, ...]) -> str:
        """The text of these tokens; bytes that are no UTF-8 are replaced."""
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")

    def token_bytes(self, token: int) -> bytes:
        """The bytes that a token stands for, exactly."""
        if token in self._added:
            return str(self._added[token]).encode()
        piece = self._trusted.id_to_token(token)
        if piece is None:
            return b""
        if self._is_byte_level:
            return bytes(byte_of()[char] for char in piece if char in byte_of())
        if re.fullmatch(r"<0x[0-9A-Fa-f]{2}>", piece):
            return bytes([int(piece[3:5], 16)])
        return piece.replace("\u2581", " ").encode()

    @cached_property
    def start_ids(self) -> tuple[int, ...]:
        """What the tokenizer puts before a plain text (a begin token, or nothing)."""
        with_special = self._trusted.encode("a", add_special_tokens=True).ids
        start = []
        for token in with_special:
            if token not in self.control_ids:
                break
            start.append(token)
        return tuple(start)

    @cached_property
    def eos_ids(self) -> tuple[int, ...]:
        """Tokens that end an answer: first the one that the chat template puts there, then the configured ones."""
        named = self._special("eos_token")
        after = self.encode_trusted(self._answer_frame[1])
        found: list[Any] = [token for token in after if token in self.control_ids][:1]
        found += [] if named is None else [self._trusted.token_to_id(named)]
        for file in ("generation_config.json", "config.json"):
            value = _json_of(self.folder / file).get("eos_token_id")
            found += value if isinstance(value, list) else [value]
        found += [self._trusted.token_to_id(text) for text in TURN_ENDS]
        ids = tuple(dict.fromkeys(token for token in found if isinstance(token, int)))
        if not ids:
            raise EnvironmentProblem(
                f"{self.folder} names no end-of-text token.", hint="Set eos_token_id in config.json."
            )
        return ids

    @cached_property
    def garbage_id(self) -> int:
        """A control token that ends nothing and that no label can hold."""
        free = sorted(self.control_ids - set(self.eos_ids))
        # the begin token does where there is no better one; the unknown token may stand in a label
        begin = self._trusted.token_to_id(self._special("bos_token") or "")
        free.sort(key=lambda token: (token == self._unknown_id, token == begin, token in self.start_ids))
        if not free:
            raise EnvironmentProblem(f"{self.folder} has no control token beside its end of text.")
        return int(free[0])

    @property
    def _unknown_id(self) -> int | None:
        found = self._trusted.token_to_id(self._special("unk_token") or "")
        return None if found is None else int(found)

    @cached_property
    def newline_ids(self) -> tuple[int, ...]:
        """Tokens that are nothing but one or two line breaks."""
        found = [self.encode_cell(text) for text in ("\n", "\n\n", "\r\n")]
        return tuple(dict.fromkeys(ids[0] for ids in found if len(ids) == 1))

    @cached_property
    def has_chat(self) -> bool:
        """Whether the folder brings a chat template."""
        return bool(self._template_text())

    @cached_property
    def chat_frame(self) -> tuple[tuple[int, ...], ...]:
        """Tokens of the template before the system text, between it and the user's, and after that.

        A template that takes no system message gives two pieces: the caller puts both texts into the user's.

        Raises:
            EnvironmentProblem: there is no template, it fails, or it does not keep the messages as they are.
        """
        return self._framed(("system", "user"), asks=True)

    @property
    def answer_lead(self) -> str:
        """The blank that the chat template puts between its prompt and an answer; mostly there is none."""
        return self._answer_frame[0]

    @cached_property
    def _answer_frame(self) -> tuple[str, str]:
        """What the template puts before an answer, beyond its prompt, and after it; nothing where that is hidden."""
        answer = MARK.format(1)
        asks = [{"role": "user", "content": MARK.format(0)}]
        try:
            prompt = self._render(asks, asks=True)
            whole = self._render([*asks, {"role": "assistant", "content": answer}], asks=False)
        except (TemplateError, EnvironmentProblem):
            return "", ""
        before, found, after = whole.partition(answer)
        lead = before.removeprefix(prompt)
        return (lead if lead.isspace() else ""), (after if found else "")

    def _framed(self, roles: tuple[str, ...], *, asks: bool) -> tuple[tuple[int, ...], ...]:
        try:
            return self._frame(roles, asks=asks)
        except TemplateError as problem:
            if roles[0] != "system":
                raise EnvironmentProblem(f"The chat template of {self.folder} fails: {problem}") from problem
        return self._framed(roles[1:], asks=asks)

    def _frame(self, roles: tuple[str, ...], *, asks: bool) -> tuple[tuple[int, ...], ...]:
        marks = [MARK.format(place) for place in range(len(roles))]
        messages = [{"role": role, "content": mark} for role, mark in zip(roles, marks, strict=True)]
        text = self._render(messages, asks=asks)
        pieces = []
        for mark in marks:
            before, found, text = text.partition(mark)
            if not found or mark in text:
                raise EnvironmentProblem(
                    f"The chat template of {self.folder} does not show each message once.",
                    hint="Give the model a card with prompt: completion.",
                )
            pieces.append(before)
        return tuple(self.encode_trusted(piece) for piece in (*pieces, text))

    @cached_property
    def _template(self) -> Template:
        source = self._template_text()
        if not source:
            raise EnvironmentProblem(
                f"{self.folder} has no chat template.", hint="Give the model a card with prompt: completion."
            )
        world = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        world.globals["raise_exception"] = _raise_template_error
        world.globals["strftime_now"] = FIXED_DAY.strftime
        return world.from_string(source)

    def _render(self, messages: list[dict[str, str]], *, asks: bool) -> str:
        return self._template.render(
            messages=messages,
            add_generation_prompt=asks,
            enable_thinking=False,
            bos_token=self._special("bos_token") or "",
            eos_token=self._special("eos_token") or "",
        )

    def _template_text(self) -> str:
        file = self.folder / "chat_template.jinja"
        if file.exists():
            return file.read_text(encoding="utf-8")
        found = self._config.get("chat_template") or _json_of(self.folder / "chat_template.json").get("chat_template")
        if isinstance(found, list):
            found = {entry["name"]: entry["template"] for entry in found}.get("default")
        return found or ""

    def _special(self, name: str) -> str | None:
        value = self._config.get(name)
        text = value.get("content") if isinstance(value, dict) else value
        return text if isinstance(text, str) else None

    def _check_cells_stay_cells(self) -> None:
        for token in sorted(self.control_ids - {self._unknown_id}):
            if token in self.encode_cell(f"a{self._added[token]}b"):
                raise EnvironmentProblem(
                    f"The tokenizer of {self.folder} lets plain text spell the control token {self._added[token]!r}."
                )


def _json_of(file: Path) -> dict[str, Any]:
    if not file.exists():
        return {}
    found = json.loads(file.read_text(encoding="utf-8"))
    return found if isinstance(found, dict) else {}


def _is_control(added: dict[str, Any]) -> bool:
    # Qwen's <think> and <tool_call> are declared as ordinary added tokens, and steer the model all the same.
    return bool(added["special"]) or CONTROL_LIKE.match(added["content"]) is not None


def _with_control_marked(declared: dict[str, Any]) -> dict[str, Any]:
    added = [{**token, "special": _is_control(token)} for token in declared.get("added_tokens", [])]
    return {**declared, "added_tokens": added}


def _raise_template_error(message: str) -> None:
    raise TemplateError(message)


@lru_cache(maxsize=1)
def byte_of() -> dict[str, int]:
    """The alphabet of byte-level BPE: printable bytes stand for themselves, the others for letters from U+0100 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {chr(byte): byte for byte in printable}
    return letters | {chr(256 + place): byte for place, byte in enumerate(others)}
