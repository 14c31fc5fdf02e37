from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsd_agent.errors import UserError
from mcsd_agent.language import Vocabulary

VOCABULARY = Vocabulary.from_texts(["go to the red ball, then face the blue box"], max_words=8)


@given(st.text(max_size=200))
def test_any_text_becomes_ids_of_fixed_shape_within_the_vocabulary(text):
    ids = VOCABULARY.encode(text)
    assert ids.shape == (8,)
    assert ids.dtype == np.int64
    assert ids.min() >= 0
    assert ids.max() < VOCABULARY.size


def test_case_and_marks_do_not_matter_but_order_does():
    assert (VOCABULARY.encode("Go to the RED ball!") == VOCABULARY.encode("go to the red ball")).all()
    assert (VOCABULARY.encode("red ball") != VOCABULARY.encode("ball red")).any()


@pytest.mark.parametrize("wrong", ["balll", "bal l", "blal", "bakl", "bll"])
def test_a_wrong_letter_is_put_right_and_not_reported_unless_it_is_a_short_word(wrong):
    text = f"go to the red {wrong}"
    if wrong in ("bal l", "bll"):  # three letters may be another word
        assert VOCABULARY.unknown_words(text)
    else:
        assert VOCABULARY.unknown_words(text) == ()
        assert (VOCABULARY.encode(text) == VOCABULARY.encode("go to the red ball")).all()


def test_what_is_near_two_words_is_neither():
    assert Vocabulary.from_texts(["boat coat"]).unknown_words("goat") == ("goat",)


def test_unknown_words_share_one_id_and_are_reported():
    assert VOCABULARY.encode("zig")[-1] == VOCABULARY.encode("zag")[-1] == 1
    assert VOCABULARY.unknown_words("go to the purple ball, purple one") == ("purple", "one")


def test_nothing_said_is_all_padding():
    assert not VOCABULARY.encode("").any()
    assert not VOCABULARY.encode(" ?! ").any()


def test_json_round_trip():
    assert Vocabulary.from_json(json.loads(json.dumps(VOCABULARY.to_json()))) == VOCABULARY


@pytest.mark.parametrize(
    "data", [None, {}, {"words": ["a"]}, {"words": [1], "max_words": 3}, {"words": ["a"], "max_words": "3"}]
)
def test_other_json_is_refused(data):
    with pytest.raises(UserError):
        Vocabulary.from_json(data)
