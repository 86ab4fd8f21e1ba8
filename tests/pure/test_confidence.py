import math

import pytest

from udfs.confidence import (
    by_field,
    free_text,
    label_mass,
    lowest,
    mass_of_labels,
    probability,
    score_of_fields,
    scores_of_fields,
    scores_of_labels,
    together,
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
    assert scores["probability"] == pytest.approx(0.27)
    assert free_text([]) == {}


def test_two_sided_is_how_sure_either_way():
    assert two_sided(0.2) == pytest.approx(0.8)
    assert two_sided(0.7) == pytest.approx(0.7)
    assert two_sided(None) is None


def test_the_lowest_part_speaks_and_an_unscored_part_silences():
    assert lowest([0.9, 0.0, 0.4]) == 0.0
    assert lowest([0.9, None]) is None
    assert lowest([]) is None


def test_parts_are_as_sure_together_as_their_product():
    assert together([0.9, 0.5]) == pytest.approx(0.45)
    assert together([0.9, None]) is None
    assert together([]) is None


def test_a_token_belongs_to_a_part_whose_byte_it_holds():
    assert within([(0, 2), (2, 2), (2, 5), (5, 6)], [(4, 6)]) == [2, 3]
    assert within([(0, 2), (2, 5)], [(5, 6)]) == []


def test_a_field_is_scored_from_the_token_that_says_no_null_follows_to_the_one_that_ends_it():
    # {"a":"xy","b":12}: the colon's token holds the quote, which null has not
    pieces = [b'{"', b"a", b'":"', b"x", b"y", b'","', b"b", b'":', b"1", b"2", b"}"]
    shares = [1.0, 1.0, 0.5, 0.7, 1.0, 0.8, 1.0, 1.0, 0.4, 0.2, 1.0]
    spans = {"a": (4, 10), "b": (13, 17)}
    decoded = b"".join(pieces)
    assert [decoded[start:end] for start, end in spans.values()] == [b':"xy",', b":12}"]
    scores = scores_of_fields(pieces, [math.log(share) for share in shares], spans)
    assert scores["a"] == pytest.approx(
        {"probability": 0.28, "mean_probability": 0.75, "geometric_mean": 0.28**0.25, "minimum": 0.5}
    )
    assert scores["b"] == pytest.approx(
        {"probability": 0.08, "mean_probability": 0.65, "geometric_mean": 0.08**0.25, "minimum": 0.2}
    )
    assert score_of_fields(pieces, [math.log(share) for share in shares], spans) == pytest.approx(0.28 * 0.08)
    assert score_of_fields([b'{"a":1,"b":2}'], [math.log(0.9)], {"a": (4, 7), "b": (10, 13)}) == pytest.approx(0.9)
    assert score_of_fields(pieces, [], spans) is None
    kept = by_field(scores)
    assert {name for name in kept if ":" not in name} == {"a", "b"}
    assert (kept["a"], kept["b:minimum"]) == (pytest.approx(0.28), pytest.approx(0.2))
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
