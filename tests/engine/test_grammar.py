"""What an `extract` teaches is what the engine's grammar lets a model write."""

import json

import pytest
from pydantic import TypeAdapter

from schemas.job import ModelRef
from schemas.tasks import AnyTask, Extract
from udfs.cards import card_of
from udfs.free import Struct, schema_of
from udfs.masked import Unteachable
from udfs.models import stage
from udfs.questions import Setting
from udfs.tokens import load_tokens

TASK = {
    "task": "extract",
    "name": "order",
    "from": ["text"],
    "attributes": {
        "order_id": "string",
        "day": "date",
        "count": "int",
        "price": "float",
        "paid": "bool",
        "size": {"type": "enum", "values": ["s", "m"]},
        "items": {"type": "list"},
    },
}
FULL = {
    "order_id": "AB 1",
    "day": "2024-05-03",
    "count": -2,
    "price": 2.5,
    "paid": True,
    "size": "s",
    "items": ["é", "b"],
}
NONE = dict.fromkeys(FULL)


@pytest.mark.parametrize("value", [FULL, NONE, {**NONE, "items": []}], ids=["full", "null", "empty list"])
def test_taught_fields_pass_the_grammar_from_the_first_character_to_the_last(value):
    xgrammar = pytest.importorskip("xgrammar", reason="the engine is not installed")
    task = TypeAdapter(AnyTask).validate_python(TASK)
    assert isinstance(task, Extract)
    model = ModelRef(name="smollm2")
    folder = stage(model).folder
    tokens = load_tokens(str(folder))
    inquiry = Struct(task, Setting(tokens, card_of(model, folder), 512))
    (taught,) = inquiry.taught(["a"], value)
    known = xgrammar.TokenizerInfo(["a", "b"], stop_token_ids=[1])
    # as the engine compiles it under `disable_any_whitespace`
    compiler = xgrammar.GrammarCompiler(known, max_threads=1)
    grammar = compiler.compile_json_schema(json.dumps(schema_of(task)), any_whitespace=False, separators=(",", ":"))
    matcher = xgrammar.GrammarMatcher(grammar)
    assert matcher.accept_string(tokens.decode(taught))
    assert matcher.accept_token(1)
    assert not xgrammar.GrammarMatcher(grammar).accept_string(" " + tokens.decode(taught))
    # a text that needs an escape is refused by the grammar, and therefore not taught
    assert not xgrammar.GrammarMatcher(grammar).accept_string('{"order_id":"a \\"b\\""')
    with pytest.raises(Unteachable, match="not_as_decoded"):
        inquiry.taught(["a"], {**value, "order_id": 'a "b"'})
