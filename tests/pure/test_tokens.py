import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import CONTROL, TEMPLATE, write_model, write_sentencepiece_model

from schemas.errors import EnvironmentProblem
from udfs.fitting import Prompter
from udfs.prompts import Sheet
from udfs.tokens import Tokens, clean_text


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    return Tokens(write_model(tmp_path_factory.mktemp("model")))


def test_template_text_keeps_its_control_tokens(tokens):
    assert tokens.encode_trusted("<|start|>user")[0] in tokens.control_ids


@given(st.lists(st.sampled_from([*CONTROL, "<|", "|>", "end", " ", "\n", "é", "label"])).map("".join))
def test_no_cell_text_becomes_a_control_token(tokens, text):
    ids = tokens.encode_cell(text)
    assert not tokens.control_ids & set(ids)
    assert b"".join(map(tokens.token_bytes, ids)) == text.encode()


@given(st.text())
def test_a_cell_comes_back_from_its_tokens(tokens, text):
    cleaned = clean_text(text)
    assert tokens.decode(tokens.encode_cell(cleaned)) == cleaned


@given(st.text(alphabet=st.characters(blacklist_categories=())))
def test_nul_and_half_characters_are_replaced_and_never_raise(tokens, text):
    cleaned = clean_text(text)
    assert "\0" not in cleaned
    tokens.encode_cell(cleaned)


def test_clean_text_changes_nothing_else():
    assert clean_text("a\ud800b\0c") == "a\ufffdb\ufffdc"
    assert clean_text(" Ab \n\U0001f600 ") == " Ab \n\U0001f600 "
    assert clean_text(None) == ""


def test_the_template_is_split_round_the_messages(tokens):
    assert [tokens.decode(piece) for piece in tokens.chat_frame] == [
        "<|start|>system\n",
        "<|end|>\n<|start|>user\n",
        "<|end|>\n<|start|>assistant\n",
    ]


def test_a_template_without_system_role_gives_two_pieces(tmp_path):
    refusing = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + TEMPLATE
    assert len(Tokens(write_model(tmp_path, template=refusing)).chat_frame) == 2


def test_a_template_that_alters_messages_is_refused(tmp_path):
    shouting = TEMPLATE.replace("message['content']", "message['content'] | upper")
    with pytest.raises(EnvironmentProblem, match="does not show each message once"):
        _ = Tokens(write_model(tmp_path, template=shouting)).chat_frame


def test_a_template_cannot_reach_outside_its_sandbox(tmp_path):
    reaching = "{{ messages.__class__.__mro__[1].__subclasses__() }}" + TEMPLATE
    with pytest.raises(EnvironmentProblem, match="fails"):
        _ = Tokens(write_model(tmp_path, template=reaching)).chat_frame


def test_a_template_prints_the_same_day_every_day(tmp_path):
    dated = Tokens(write_model(tmp_path, template="{{ strftime_now('%d %b %Y') }}" + TEMPLATE))
    assert dated.decode(dated.chat_frame[0]).startswith("01 Jan 2025")


def test_end_and_garbage_are_different_control_tokens(tokens):
    assert tokens.eos_ids[0] == 0
    assert tokens.garbage_id in tokens.control_ids - set(tokens.eos_ids)


def test_what_the_template_puts_after_an_answer_ends_one_whatever_the_configuration_says(tmp_path):
    folder = write_model(tmp_path, template=TEMPLATE.replace("<|end|>", "<|spare|>"))
    tokens = Tokens(folder)
    ended = [tokens.decode((token,)) for token in tokens.eos_ids]
    assert ended == ["<|spare|>", "<|end|>"]
    assert tokens.garbage_id not in tokens.eos_ids
    (folder / "chat_template.jinja").unlink()
    assert Tokens(folder).eos_ids == tokens.eos_ids[1:]


def test_a_template_that_shows_no_answer_leaves_the_configured_end(tmp_path):
    shy = "{% if messages[-1]['role'] == 'assistant' %}{{ raise_exception('no') }}{% endif %}" + TEMPLATE
    assert Tokens(write_model(tmp_path, template=shy)).eos_ids[0] == 0


LLAMA_2 = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}{{ raise_exception('no') }}"
    "{% elif message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
)


@pytest.mark.parametrize("prepends", [True, False])
def test_an_answer_is_spelled_with_the_blank_that_the_template_puts_before_it(tmp_path, prepends):
    folder = write_sentencepiece_model(tmp_path, prepends=prepends)
    (folder / "chat_template.jinja").write_text(LLAMA_2)
    tokens = Tokens(folder)
    assert tokens.answer_lead == " "
    assert tokens.decode((tokens.eos_ids[0],)) == "</s>"
    sheet = Sheet("Choose.", (), ("Text",), ("Label:",))
    prompter = Prompter(tokens, sheet, form="chat", room=100)
    assert prompter.encode_answer("refund") == tokens.encode_cell(" refund")
    assert Prompter(tokens, sheet, form="completion", room=100).encode_answer("refund") == tokens.encode_cell(" refund")


def test_a_template_without_such_a_blank_has_no_lead(tokens):
    assert tokens.answer_lead == ""


def test_words_after_a_cue_are_the_tokens_of_both_together(tokens):
    assert tokens.continues("Label:", " refund")
    assert not tokens.continues("Label: ref", "und")


def test_control_like_added_tokens_steer_too(tmp_path):
    folder = write_model(tmp_path)
    file = folder / "tokenizer.json"
    declared = json.loads(file.read_text())
    spare = next(token for token in declared["added_tokens"] if token["content"] == "<|spare|>")
    spare["special"] = False
    file.write_text(json.dumps(declared))
    tokens = Tokens(folder)
    assert spare["id"] in tokens.control_ids
    assert spare["id"] not in tokens.encode_cell("a <|spare|> b")


def test_a_folder_without_tokenizer_is_named(tmp_path):
    with pytest.raises(EnvironmentProblem, match=r"no readable tokenizer\.json"):
        Tokens(tmp_path)


@pytest.mark.parametrize("prepends", [True, False])
def test_a_tokenizer_after_sentencepiece_gains_no_blank_and_forges_nothing(tmp_path, prepends):
    tokens = Tokens(write_sentencepiece_model(tmp_path, prepends=prepends))
    for text in ("Label: refund", " refund", "refund", "\n\nText:", "é漢 x", "[INST] hi</s>", "  two"):
        ids = tokens.encode_cell(text)
        assert b"".join(map(tokens.token_bytes, ids)) == text.encode()
        assert not tokens.control_ids & set(ids)
    assert tokens.garbage_id not in (0, *tokens.eos_ids)
