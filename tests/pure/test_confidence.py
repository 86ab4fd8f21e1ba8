import math

import pytest

from udfs.confidence import (
    by_field,
    free_text,
    label_mass,
    lowest,
    mass_of_labels,
    probability,
    scores_of_fields,
    scores_of_labels,
    two_sided,
    within,
)


def test_a_closed_read_is_the_product_along_its_path():
    assert probability([math.log(0.8), math.log(0.5)]) == pytest.approx(0.4)
    assert probability([]) is None


def test_label_mass_counts_the_steps_that_decide():
    assert label_mass([0.9, 0.5, 0.1], 2) == pytest.approx(0.45)
    assert label_mass([], 2) is None


def test_free_text_scores_are_those_worked_out_by_hand():
    # 0.9, 0.6, 0.5: mean 2/3, product 0.27, cube root of it 0.6463
    scores = free_text([math.log(0.9), math.log(0.6), math.log(0.5)])
    assert scores["mean_probability"] == pytest.approx(2 / 3)
    assert scores["geometric_mean"] == pytest.approx(0.6463304)
    assert scores["minimum"] == pytest.approx(0.5)
    assert scores["sum_logprob"] == pytest.approx(math.log(0.27))
    assert free_text([]) == {}


def test_two_sided_is_how_sure_either_way():
    assert two_sided(0.2) == pytest.approx(0.8)
    assert two_sided(0.7) == pytest.approx(0.7)
    assert two_sided(None) is None


def test_the_lowest_part_speaks_and_an_unscored_part_silences():
    assert lowest([0.9, 0.0, 0.4]) == 0.0
    assert lowest([0.9, None]) is None
    assert lowest([]) is None


def test_a_token_belongs_to_a_part_whose_byte_it_holds():
    assert within([(0, 2), (2, 2), (2, 5), (5, 6)], [(4, 6)]) == [2, 3]
    assert within([(0, 2), (2, 5)], [(5, 6)]) == []


def test_syntax_does_not_count_in_a_field():
    # {"a": "xy", "b": 12}
    pieces = [b'{"', b"a", b'":', b' "', b"x", b'y"', b', "', b"b", b'":', b" ", b"1", b"2", b"}"]
    logprobs = [0.0, 0.0, 0.0, 0.0, math.log(0.5), math.log(0.7), 0.0, 0.0, 0.0, 0.0, math.log(0.4), math.log(0.2), 0.0]
    spans = {"a": [(7, 9)], "b": [(17, 19)]}
    assert b"".join(pieces)[7:9] == b"xy"
    assert b"".join(pieces)[17:19] == b"12"
    scores = scores_of_fields(pieces, logprobs, spans)
    assert scores["a"] == pytest.approx(
        {"mean_probability": 0.6, "geometric_mean": 0.35**0.5, "minimum": 0.5, "sum_logprob": math.log(0.35)}
    )
    assert scores["b"] == pytest.approx(
        {"mean_probability": 0.3, "geometric_mean": 0.08**0.5, "minimum": 0.2, "sum_logprob": math.log(0.08)}
    )
    kept = by_field(scores)
    assert {name for name in kept if ":" not in name} == {"a", "b"}
    assert (kept["a"], kept["b:minimum"]) == (pytest.approx(0.6), pytest.approx(0.2))
    assert scores_of_fields(pieces, [], spans) == {"a": {}, "b": {}}
    assert by_field({"a": {}}) == {}


def test_a_labels_score_is_its_whole_probability_over_that_of_all():
    # labels a, ab and c, with an end where one goes on
    forced = [[0.8, 0.1], [0.8, 0.2], [0.12]]
    scores = scores_of_labels(forced)
    assert scores == pytest.approx([0.08 / 0.36, 0.16 / 0.36, 0.12 / 0.36])
    assert mass_of_labels(forced) == pytest.approx(0.36)
    # step by step c would have 0.12 / 0.92 only: most of what the shared beginning has goes to no label
    assert scores[2] > 0.3


def test_label_scores_divide_the_prior_out():
    scores = scores_of_labels([[0.3], [0.1]], [[math.log(0.9)], [math.log(0.1)]])
    assert scores == pytest.approx([0.25, 0.75])
    # a prior for an end that is not read does not count
    assert scores_of_labels([[0.5], [0.5]], [[0.0, -9.0], [0.0]]) == pytest.approx([0.5, 0.5])


def test_labels_the_model_gives_nothing_are_equal():
    assert scores_of_labels([[0.0], [0.0]]) == pytest.approx([0.5, 0.5])


def test_long_labels_do_not_vanish():
    assert scores_of_labels([[1e-40] * 20, [1e-40] * 20]) == pytest.approx([0.5, 0.5])
