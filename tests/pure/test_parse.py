import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.fields import Attribute
from udfs.free import escaped, unescaped
from udfs.parse import InvalidOutput, dumps, fields_of, free_text, is_verbatim

ATTRIBUTES = {
    "name": Attribute(),
    "count": Attribute(type="int"),
    "price": Attribute(type="float"),
    "day": Attribute(type="date"),
    "paid": Attribute(type="bool"),
    "size": Attribute(type="enum", values=("s", "m")),
    "items": Attribute(type="list", of="string"),
}
TEXTS = st.text(alphabet=st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"))
VALUES = st.fixed_dictionaries(
    {
        "name": st.none() | TEXTS,
        "count": st.none() | st.integers(-(2**62), 2**62),
        "price": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "day": st.none() | st.dates().map(lambda day: day.isoformat()),
        "paid": st.none() | st.booleans(),
        "size": st.none() | st.sampled_from(["s", "m"]),
        "items": st.none() | st.lists(TEXTS, max_size=4),
    }
)


@given(VALUES, st.booleans(), st.sampled_from([None, (",", ":"), (" , ", " : ")]))
def test_fields_come_back_as_they_were_written(values, as_ascii, separators):
    text = json.dumps(values, ensure_ascii=as_ascii, separators=separators)
    found = fields_of(text.encode(), ATTRIBUTES)
    assert found.values == values
    assert not found.wrong
    assert json.loads(dumps(found.values)) == values


@given(VALUES, st.sampled_from([None, (",", ":"), (" , ", " : ")]))
def test_a_field_is_decided_from_its_colon_to_the_character_after_its_value(values, separators):
    decoded = json.dumps(values, ensure_ascii=False, separators=separators).encode()
    found = fields_of(decoded, ATTRIBUTES)
    for name, (start, end) in found.spans.items():
        own = decoded[start:end].decode()
        assert own[0] == ":"
        assert own[-1] in ",}"
        assert json.loads(own[1:-1]) == values[name]


@given(st.binary())
def test_any_bytes_parse_or_are_invalid(decoded):
    try:
        found = fields_of(decoded, ATTRIBUTES)
    except InvalidOutput:
        return
    assert list(found.values) == list(ATTRIBUTES)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "{}",
        '{"a": 1',
        '{"a": 1} x',
        '{"a": 1, "a": 2}',
        '{"a": NaN}',
        '{"a": Infinity}',
        '{"a": 01}',
        '{"a": {"b": 1}}',
        '{"a": [[1]]}',
        '{"a": 1,}',
        "{'a': 1}",
        '{"a": "line\nbreak"}',
        '{"a": "\\ud800"}',
        '{"a": "\\u0000"}',
        '{"b": 1}',
        '{"a": 1, "b": 1}',
        "[" * 100_000,
        '{"a": ' + "1" * 5000 + "}",
        '{"a": "' + "x" * 200_000 + '"}',
    ],
)
def test_malformed_objects_are_refused(text):
    with pytest.raises(InvalidOutput):
        fields_of(text.encode(), {"a": Attribute(type="int")})


@pytest.mark.parametrize(
    ("attribute", "raw"),
    [
        (Attribute(type="int"), "1.5"),
        (Attribute(type="int"), "true"),
        (Attribute(type="int"), str(2**63)),
        (Attribute(type="float"), "1e999"),
        (Attribute(type="float"), "9" * 350),
        (Attribute(type="list", of="float"), f"[{'9' * 350}]"),
        (Attribute(type="date"), '"2026-02-30"'),
        (Attribute(type="date"), '"20260203"'),
        (Attribute(type="bool"), "1"),
        (Attribute(type="enum", values=("s",)), '"m"'),
        (Attribute(type="string", pattern="^[A-Z]+$"), '"ab"'),
        (Attribute(type="list", of="int"), '["x"]'),
        (Attribute(type="list", of="int"), "3"),
    ],
)
def test_a_value_of_the_wrong_form_is_null_and_named(attribute, raw):
    found = fields_of(f'{{"a": {raw}}}'.encode(), {"a": attribute})
    assert found.values == {"a": None}
    assert found.wrong == ["a"]


def test_whole_floats_are_integers_and_integers_floats():
    found = fields_of(b'{"a": 3.0, "b": 2}', {"a": Attribute(type="int"), "b": Attribute(type="float")})
    assert found.values == {"a": 3, "b": 2.0}
    assert isinstance(found.values["a"], int)
    assert math.isclose(found.values["b"], 2.0)


def test_free_text_ends_at_its_line():
    text = free_text(b" \n +49 170 \nRules:", one_line=True)
    assert text.value == "+49 170"
    assert b" \n +49 170 \nRules:"[slice(*text.span)] == b"+49 170"
    assert free_text(b" a\nb \n", one_line=False).value == "a\nb"


@given(st.binary(), st.booleans())
def test_free_text_is_text_or_invalid(decoded, one_line):
    try:
        text = free_text(decoded, one_line=one_line)
    except InvalidOutput:
        return
    assert text.value.encode() == decoded[slice(*text.span)]


@given(st.text())
def test_escaped_lines_come_back(text):
    assert "\n" not in escaped(text)
    assert unescaped(escaped(text)) == text


def test_verbatim_means_as_it_stands():
    assert is_verbatim("AB12", ["order AB12"])
    assert not is_verbatim("ab12", ["order AB12"])
    assert is_verbatim(["a", "b"], [None, "b a"])
    assert not is_verbatim("xy", ["x", "y"])
    assert is_verbatim(None, [])
