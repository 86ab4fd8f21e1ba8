import json
import math

import pytest
from pydantic import TypeAdapter
from tiny_model import write_model

from schemas.card import ModelCard
from schemas.scores import OF_TEXT, of_field
from schemas.tables import HOLDING_NOTES
from schemas.tasks import AnyTask, Extract
from udfs.free import Struct
from udfs.questions import Answered, Asked, Setting
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


def replied(inquiry: Struct, fields: dict[str, object], *, p: float = 0.9) -> Reply:
    ids = inquiry.setting.tokens.encode_cell(json.dumps(PLAIN | fields))
    return Reply(ids, (math.log(p),) * len(ids), finish="stop")


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


def test_each_field_is_that_of_the_window_that_states_it_most_surely(inquiry):
    nothing = dict.fromkeys(ORDER.attributes)
    windows = [
        replied(inquiry, nothing | {"buyer": "Bob", "items": ["rug"], "sizes": []}, p=0.7),
        replied(inquiry, nothing | {"buyer": "Ann", "items": ["lamp", "x" * 90]}, p=0.8),
        replied(inquiry, nothing, p=0.6),
    ]
    found = inquiry.answered(Asked(("text",), windows=3, notes=("windowed",)), windows)
    assert json.loads(found.value) == {"buyer": "Ann", "items": ["lamp", "x" * 90], "sizes": None, "day": None}
    least = {"buyer": 0.8, "items": 0.8, "sizes": 0.6, "day": 0.6}
    for name, score in least.items():
        assert found.scores[f"{name}:mean_probability"] == pytest.approx(score)
        assert found.scores[f"{name}:minimum"] == pytest.approx(score)
        assert found.scores[f"{name}:geometric_mean"] == pytest.approx(score)
        assert found.scores[name] <= score + 1e-9
    assert found.confidence == pytest.approx(math.prod(found.scores[name] for name in least))
    assert found.stated == 2
    assert found.notes == ("windowed", "at_limit:items")


def test_a_note_of_a_field_goes_with_its_window(inquiry):
    windows = [replied(inquiry, {"day": "2026-02-30", "buyer": None}), replied(inquiry, {}, p=0.8)]
    found = inquiry.answered(Asked(("text",), windows=2), windows)
    assert json.loads(found.value)["day"] == "2026-02-03"
    assert found.notes == ()


def test_a_value_that_is_none_of_its_type_has_the_lowest_score_of_every_kind(inquiry):
    found = read(inquiry, {"day": "2026-02-30"})
    kinds = ("day", "day:mean_probability", "day:geometric_mean", "day:minimum")
    assert [found.scores[name] for name in kinds] == [0.0, 0.0, 0.0, 0.0]
    assert found.confidence == 0.0


@pytest.mark.parametrize("name", ORDER.attributes)
@pytest.mark.parametrize("is_stated", [True, False])
def test_no_score_is_that_of_forced_syntax_alone(inquiry, name, is_stated):
    nothing = dict.fromkeys(ORDER.attributes)
    stated = nothing | {name: PLAIN[name]}
    said, rival = (stated, nothing) if is_stated else (nothing, stated)
    (ids,), (others,) = inquiry.taught([], said), inquiry.taught([], rival)
    # the grammar lets either follow: where they part is a choice, and all else as if it had been forced
    parting = next(at for at, (one, other) in enumerate(zip(ids, others, strict=False)) if one != other)
    logprobs = [math.log(0.6) if at == parting else 0.0 for at in range(len(ids))]
    found = inquiry.meant(["text"], [Reply(tuple(ids), tuple(logprobs), finish="stop")])
    own = {kind: found.scores[of_field(name, kind)] for kind in OF_TEXT}
    assert (own["probability"], own["minimum"]) == (pytest.approx(0.6), pytest.approx(0.6))
    # forced tokens are among those that a mean is of
    assert 0.6 < own["geometric_mean"] < own["mean_probability"] < 1
    assert found.confidence == pytest.approx(0.6)
