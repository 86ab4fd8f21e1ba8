import json
import math

import pytest
from pydantic import TypeAdapter
from tiny_model import write_model

from schemas.card import ModelCard
from schemas.errors import JobFileError
from schemas.tasks import AnyTask
from udfs.ask import inquiry_of
from udfs.closed import ClosedInquiry
from udfs.fitting import cap_of, windows_of
from udfs.questions import Asked, Setting
from udfs.tokens import Tokens
from udfs.wire import Reply

TASKS = TypeAdapter(AnyTask)
TOPIC = {
    "task": "classify",
    "name": "topic",
    "from": ["message"],
    "labels": {"refund": "the customer wants money back", "delivery": "", "other": "anything else"},
    "instructions": "Look at the last sentence.",
    "examples": [{"input": "Where is it?", "output": "delivery"}],
}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    return Tokens(write_model(tmp_path_factory.mktemp("model")))


def setting(tokens, **card):
    return Setting(tokens, ModelCard(**({"prompt": "completion"} | card)), 600)


def prompt(tokens, task, values, place=0, **card):
    inquiry = inquiry_of(TASKS.validate_python(task), setting(tokens, **card))
    return tokens.decode(inquiry.asked(values).reads[place].prompt)


def test_classify_in_completion_form(tokens):
    assert prompt(tokens, TOPIC, ["Money back!"]) == (
        "Choose the label that fits the text.\n"
        "Look at the last sentence.\n\n"
        "Labels:\n"
        "- refund: the customer wants money back\n"
        "- delivery\n"
        "- other: anything else\n\n"
        "Text: Where is it?\n"
        "Label: delivery\n\n"
        "Text: Money back!\n"
        "Label:"
    )


def test_classify_in_chat_form_puts_what_never_changes_into_the_system_text(tokens):
    assert prompt(tokens, TOPIC | {"examples": []}, ["Money back!"], prompt="chat") == (
        "<|start|>system\n"
        "Choose the label that fits the text.\n"
        "Look at the last sentence.\n\n"
        "Labels:\n"
        "- refund: the customer wants money back\n"
        "- delivery\n"
        "- other: anything else<|end|>\n"
        "<|start|>user\n"
        "Text: Money back!\n"
        "Label:<|end|>\n"
        "<|start|>assistant\n"
    )


def test_a_menu_has_one_letter_per_label_and_examples_answer_by_letter(tokens):
    text = prompt(tokens, TOPIC, ["Money back!"], read="menu", prompt="chat")
    assert "A) refund: the customer wants money back\nB) delivery\nC) other: anything else" in text
    assert "Text: Where is it?\nLabel: B" in text


def test_abstain_is_one_more_label(tokens):
    assert "- unclear: none of the others fits\n" in prompt(tokens, TOPIC | {"abstain": "unclear"}, [""])


@pytest.mark.parametrize(
    "task",
    [
        TOPIC | {"abstain": "other"},
        {"task": "answer", "name": "a", "from": ["m"], "question": "?", "options": ["refund", "delivery", "other"]}
        | {"not_answerable": "other"},
    ],
)
def test_a_label_may_be_the_word_for_none_of_them(tokens, task):
    inquiry = inquiry_of(TASKS.validate_python(task), setting(tokens))
    assert inquiry.sets[0].labels == ("refund", "delivery", "other")
    reply = Reply(inquiry.sets[0].paths[2], logprobs=(-0.1,), masses=(1.0,))
    assert inquiry.answered(inquiry.asked(["x"]), [reply]).stated == 0


def test_multilabel_asks_about_each_label_last(tokens):
    task = {"task": "multilabel", "name": "tags", "from": ["message"], "labels": ["late", "rude"]}
    first, second = (prompt(tokens, task, ["It came late."], place) for place in (0, 1))
    assert first.endswith("Text: It came late.\nDoes the label late fit?")
    assert second.endswith("Text: It came late.\nDoes the label rude fit?")


def test_clean_shows_context_before_the_cell(tokens):
    task = {
        "task": "clean",
        "name": "phone",
        "rules": "digits after the plus sign",
        "context": ["country"],
        "examples": [{"input": "0170/1", "output": "+491701"}],
    }
    assert prompt(tokens, task, ["DE", "0170 12"]) == (
        "Correct the value of phone. Keep a value that is right as it is.\n"
        "Rules: digits after the plus sign\n\n"
        "phone: 0170/1\n"
        "Corrected phone: +491701\n\n"
        "country: DE\n"
        "phone: 0170 12\n"
        "Corrected phone:"
    )


def test_impute_fills_in_after_the_columns_name(tokens):
    task = {"task": "impute", "name": "country", "from": ["city", "zip"]}
    assert prompt(tokens, task, ["Paris", None]) == (
        "Fill in country from what is known of the row.\n\ncity: Paris\nzip:\ncountry:"
    )


def test_match_shows_both_records(tokens):
    task = {"task": "match", "name": "same", "left": ["title"], "right": ["name"]}
    assert prompt(tokens, task, ["lamp", "a lamp"]) == (
        "Say whether record A and record B are the same thing.\n\nA title: lamp\nB name: a lamp\nSame:"
    )


def test_extract_lists_fields_with_their_types(tokens):
    task = {
        "task": "extract",
        "name": "order",
        "from": ["message"],
        "attributes": {"day": "date", "size": {"type": "enum", "values": ["s", "m"], "description": "of the shirt"}},
        "examples": [{"input": "an s", "output": {"day": None, "size": "s"}}],
    }
    assert prompt(tokens, task, ["an m"]) == (
        "Copy these fields from the text into JSON. A field that the text does not state is null.\n\n"
        "Fields:\n- day (date, YYYY-MM-DD)\n- size (one of s, m): of the shirt\n\n"
        'Text: an s\nJSON: {"day": null, "size": "s"}\n\n'
        "Text: an m\nJSON:"
    )


def test_answer_asks_after_the_text(tokens):
    task = {"task": "answer", "name": "a", "from": ["message"], "question": "Who?", "not_answerable": "unknown"}
    assert prompt(tokens, task, ["Ann came."]) == (
        "Answer the question about the text. If the text does not say, answer: unknown\n\n"
        "Text: Ann came.\nQuestion: Who?\nAnswer:"
    )


def test_label_tokens_are_those_of_cue_and_label_written_in_one_go(tokens):
    inquiry = inquiry_of(TASKS.validate_python(TOPIC), setting(tokens))
    for label in ("refund", "delivery", "other"):
        assert tokens.encode_cell(f"Label: {label}") == (
            *tokens.encode_cell("Label:"),
            *inquiry.prompter.encode_answer(label),
        )


def test_examples_go_first_and_the_cell_keeps_its_ends(tokens):
    task = TOPIC | {"examples": [{"input": "word " * 60, "output": "other"}]}
    asked = inquiry_of(TASKS.validate_python(task), setting(tokens)).asked(["start " + "x" * 100_000 + " finish"])
    text = tokens.decode(asked.reads[0].prompt)
    assert asked.notes == ("examples_dropped", "cut")
    assert "word" not in text
    assert "Text: start xx" in text
    assert "xx finish\nLabel:" in text
    assert len(asked.reads[0].prompt) + asked.reads[0].max_tokens <= 600


def test_windows_cover_the_text_and_the_surest_that_states_something_wins(tokens):
    task = TOPIC | {"long_input": "window", "abstain": "unclear"}
    inquiry = inquiry_of(TASKS.validate_python(task), setting(tokens))
    asked = inquiry.asked([" ".join(map(str, range(500)))])
    assert asked.windows > 1
    assert asked.notes == ("examples_dropped", "windowed")
    assert all(len(read.prompt) + read.max_tokens <= 600 for read in asked.reads)
    closed = inquiry.sets[0]
    replies = [Reply(token_ids=closed.paths[3], logprobs=(math.log(0.9),), masses=(1.0,))] * asked.windows
    replies[1] = Reply(token_ids=closed.paths[0], logprobs=(math.log(0.5),), masses=(1.0,))
    answer = inquiry.answered(asked, replies)
    assert (answer.value, answer.confidence) == ('"refund"', pytest.approx(0.5))


def test_a_label_fits_a_text_that_it_fits_in_one_window(tokens):
    task = {"task": "multilabel", "name": "t", "from": ["m"], "labels": ["late", "rude", "odd"], "long_input": "window"}
    inquiry = inquiry_of(TASKS.validate_python(task), setting(tokens))
    yes, no = inquiry.sets[0].paths

    def said(path, p):
        return Reply(path, logprobs=(math.log(p),), masses=(0.9,) * len(path))

    replies = [said(yes, 0.7), said(no, 0.9), said(no, 0.6), said(no, 0.9), said(yes, 0.8), said(no, 0.9)]
    answer = inquiry.answered(Asked(("text",), windows=2), replies)
    assert answer.value == '["late","rude"]'
    assert answer.scores == pytest.approx({"late": 0.7, "rude": 0.8, "odd": 0.4})
    assert answer.confidence == pytest.approx(0.6)


def test_a_window_that_failed_has_no_say(tokens):
    inquiry = inquiry_of(TASKS.validate_python(TOPIC), setting(tokens))
    good = Reply(inquiry.sets[0].paths[1], logprobs=(-0.1,), masses=(1.0,))
    assert inquiry.answered(Asked(("x",), windows=2), [Reply(error="timeout"), good]).value == '"delivery"'
    assert inquiry.answered(Asked(("x",), windows=2), [Reply(error="timeout")] * 2).error == "timeout"


def test_a_cell_to_be_cleaned_is_never_cut(tokens):
    task = {"task": "clean", "name": "phone", "rules": "digits", "context": ["note"]}
    inquiry = inquiry_of(TASKS.validate_python(task), setting(tokens))
    assert inquiry.asked(["x" * 9000, "0170"]).notes == ("cut",)
    assert inquiry.asked(["x", "9" * 9000]).error == "over_long"


def test_instructions_that_fill_the_context_leave_rows_over_long(tokens):
    inquiry = inquiry_of(TASKS.validate_python(TOPIC | {"instructions": "word " * 400}), setting(tokens))
    asked = inquiry.asked(["a"])
    assert asked.error == "over_long"
    assert inquiry.answered(asked, []).error == "over_long"


@pytest.mark.parametrize("form", ["chat", "completion"])
def test_a_task_that_leaves_no_row_any_room_is_refused_at_once(tokens, form):
    labels = [f"label number {number}" for number in range(300)]
    inquiry = inquiry_of(
        TASKS.validate_python(TOPIC | {"labels": labels, "examples": []}), setting(tokens, prompt=form)
    )
    with pytest.raises(JobFileError, match=r"topic: .* of a context of 600 that leaves no room") as told:
        inquiry.check_room()
    assert "max_model_len" in told.value.hint


def test_examples_make_no_task_too_large_and_the_count_is_that_of_the_prompt(tokens):
    task = TOPIC | {"examples": [{"input": "word " * 400, "output": "other"}]}
    inquiry = inquiry_of(TASKS.validate_python(task), setting(tokens))
    inquiry.check_room()
    (read,) = inquiry.asked([" x" * 150]).reads
    (bare,) = inquiry_of(TASKS.validate_python(TOPIC | {"examples": []}), setting(tokens)).asked([None]).reads
    assert inquiry.prompter.constant_tokens == len(bare.prompt) < len(read.prompt)


def test_a_cell_of_several_lines_is_shown_on_one_and_comes_back(tokens):
    task = {"task": "clean", "name": "address", "rules": "no blanks"}
    inquiry = inquiry_of(TASKS.validate_python(task), setting(tokens))
    asked = inquiry.asked(["a\nb\\c"])
    assert tokens.decode(asked.reads[0].prompt).endswith("address: a\\nb\\\\c\nCorrected address:")
    reply = Reply(token_ids=tokens.encode_cell(" a\\nc"), logprobs=(0.0,) * 9, finish="stop")
    assert inquiry.answered(asked, [reply]).value == '"a\\nc"'


def test_the_prior_is_asked_without_text_and_subtracted(tokens):
    inquiry = inquiry_of(TASKS.validate_python(TOPIC | {"examples": []}), setting(tokens, prior_correction=True))
    assert isinstance(inquiry, ClosedInquiry)
    reads = inquiry.prior_reads()
    assert len(reads) == 3
    assert tokens.decode(reads[0].prompt).endswith("\n\nText:\nLabel:")
    assert {read.choices for read in reads} <= {closed.name for closed in inquiry.sets}
    inquiry.take_prior([[0.5] * len(path) for path in inquiry.sets[0].paths])
    assert not inquiry.wants_prior
    # three labels, of which each begins with another token and is due a third
    assert inquiry.sets[0].prior[0][0] == pytest.approx(math.log(0.5 * 3))


@pytest.mark.parametrize(("options", "wants"), [(["yes", "no"], False), (["Yes", "No", "unclear"], True)])
def test_yes_and_no_keep_their_own_probability(tokens, options: list[str], wants: bool):
    task = {"task": "answer", "name": "asks", "from": ["text"], "question": "Is it?", "options": options}
    inquiry = inquiry_of(TASKS.validate_python(task), setting(tokens, prior_correction=True))
    assert isinstance(inquiry, ClosedInquiry)
    assert inquiry.wants_prior is wants


def test_a_label_read_alone_has_its_end_read_where_another_label_goes_on(tokens):
    task = TOPIC | {"labels": ["card", "card lost"], "examples": [], "scores": True}
    inquiry = inquiry_of(TASKS.validate_python(task), setting(tokens))
    menu, *alone = inquiry.sets
    assert [json.loads(closed.json)["reads_end"] for closed in (menu, *alone)] == [False, True, True]
    short, long = inquiry.asked(["Where is it?"]).reads
    assert (short.max_tokens, long.max_tokens) == (len(alone[0].paths[0]) + 1, len(alone[1].paths[0]))


@pytest.mark.parametrize(
    ("card", "end"),
    [
        ({"prompt": "chat"}, "<|end|>"),
        ({"prompt": "completion", "tuned": True}, "<|end|>"),
        ({"prompt": "completion", "tuned": False}, "\n"),
    ],
)
def test_a_label_ends_as_the_prompt_has_taught_the_model(tokens, card, end):
    task = TOPIC | {"labels": ["card", "card lost"], "examples": [{"input": "Where?", "output": "card"}]}
    (closed,) = inquiry_of(TASKS.validate_python(task), setting(tokens, **card)).sets
    assert tokens.decode((closed.eos,)) == end
    assert closed.label_of((*closed.paths[0], closed.eos)) == "card"
    assert closed.eos in closed.stop_token_ids
    if not card.get("tuned", True):
        shown = tokens.encode_cell("Label: card\n\nText:")
        assert shown[len(tokens.encode_cell("Label: card"))] == closed.eos


def test_with_every_label_read_the_answer_is_the_likeliest_whole_label(tokens):
    task = TOPIC | {"labels": ["card", "card lost", "cash"], "examples": [], "scores": True}
    inquiry = inquiry_of(TASKS.validate_python(task), setting(tokens))
    asked = inquiry.asked(["Where is it?"])
    products = (0.08, 0.06, 0.26)
    replies = [
        Reply(masses=(product, *[1.0] * (read.max_tokens - 1)))
        for read, product in zip(asked.reads, products, strict=True)
    ]
    answer = inquiry.answered(asked, replies)
    assert (answer.value, answer.confidence, answer.label_mass) == ('"cash"', pytest.approx(0.65), pytest.approx(0.4))
    assert answer.scores == pytest.approx({"card": 0.2, "card lost": 0.15, "cash": 0.65})


def test_caps_share_the_room_among_the_long():
    assert cap_of([10, 200, 300], 110) == 50
    assert cap_of([10, 20], 40) >= 20


def test_windows_overlap_by_an_eighth_and_leave_nothing_out():
    cell = tuple(range(1000))
    parts = windows_of(cell, 160)
    assert all(len(part) <= 160 for part in parts)
    assert parts[1][0] == 140
    assert set().union(*parts) == set(cell)
