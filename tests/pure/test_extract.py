import json

import pytest
from pydantic import TypeAdapter
from tiny_model import write_model

from schemas.card import ModelCard
from schemas.tables import HOLDING_NOTES
from schemas.tasks import AnyTask, Extract
from udfs.free import Struct
from udfs.questions import Answered, Setting
from udfs.tokens import Tokens
from udfs.wire import Reply

ORDER: Extract = TypeAdapter(AnyTask).validate_python(
    {
        "task": "extract",
        "name": "order",
        "from": ["message"],
        "attributes": {
            "buyer": "string",
            "items": {"type": "list", "of": "string"},
            "sizes": {"type": "list", "of": "int"},
            "day": "date",
        },
    }
)
PLAIN = {"buyer": "Ann", "items": ["lamp"], "sizes": [3], "day": "2026-02-03"}


@pytest.fixture(scope="module")
def inquiry(tmp_path_factory):
    tokens = Tokens(write_model(tmp_path_factory.mktemp("model")))
    return Struct(ORDER, Setting(tokens, ModelCard(prompt="completion"), 600))


def replied(inquiry: Struct, fields: dict[str, object]) -> Reply:
    ids = inquiry.setting.tokens.encode_cell(json.dumps(PLAIN | fields))
    return Reply(ids, (-0.1,) * len(ids), finish="stop")


def read(inquiry: Struct, fields: dict[str, object]) -> Answered:
    return inquiry.meant(["text"], [replied(inquiry, fields)])


def bounds(inquiry: Struct, name: str) -> dict[str, int]:
    return json.loads(inquiry.schema)["properties"][name]["anyOf"][0]


def test_what_the_schema_may_have_cut_is_noted_and_held_back(inquiry):
    item, most = bounds(inquiry, "items")["items"]["maxLength"], bounds(inquiry, "items")["maxItems"]
    assert read(inquiry, {}).notes == ()
    assert read(inquiry, {"items": ["x" * (item - 1)] * (most - 1)}).notes == ()
    cut = {
        "buyer": "x" * bounds(inquiry, "buyer")["maxLength"],
        "items": ["lamp", "x" * item],
        "sizes": [1] * bounds(inquiry, "sizes")["maxItems"],
    }
    for name, value in cut.items():
        (note,) = read(inquiry, {name: value}).notes
        assert note == f"at_limit:{name}"
        assert note.startswith(HOLDING_NOTES)
    assert read(inquiry, {"items": ["lamp"] * most}).notes == ("at_limit:items",)


def test_an_item_has_room_for_a_product_name(inquiry):
    assert bounds(inquiry, "items")["items"]["maxLength"] >= 48
