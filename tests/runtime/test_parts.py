"""Instructions are cut where one thing follows another, and come out in the order in which they are to be done."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsd_agent.runtime.parts import split_parts

BALL, BOX = "go to the red ball", "face the blue box"


@pytest.mark.parametrize(
    "text",
    [
        "{0}, then {1}.",
        "{0} and after that {1}",
        "{0}; {1}",
        "{0}. Next, {1}!",
        "{0} and next {1}",
        "{0}, afterwards {1}",
        "{0}, and subsequently {1}",
        "first {0}, and later {1}",
        "to begin with, {0}; finally {1}",
        "step one, {0}; step two, {1}",
        "{0}, and once you are there {1}",
        "{0}; when that's finished, {1}",
        "{0}, as soon as you have done that, {1}",
        "{0} and when you get there, {1}",
        # turned round
        "{1} after you {0}",
        "after you {0}, {1}",
        "Before you {1}, {0}",
        "could you please, before you {1}, {0}?",
        "{0} before you {1}",
        "so, er, could you maybe before you {1}, {0}",
        "{1}, but first {0}",
    ],
)
def test_order_is_what_english_says(text):
    assert split_parts(text.format(BALL, BOX)) == [BALL, BOX]


def test_a_word_behind_is_no_part_of_its_own():
    assert split_parts(f"{BALL} before you {BOX}, please") == [BALL, f"{BOX}, please"]


def test_what_is_said_ahead_is_no_part_of_its_own():
    assert split_parts(f"Right then, {BALL}. Okay, then {BOX}.") == [BALL, BOX]


def test_three_parts_with_a_conjunction_among_them():
    assert split_parts(f"{BOX} after you {BALL}, then stop") == [BALL, BOX, "stop"]


@pytest.mark.parametrize(
    "text",
    [
        "please, robot, go to the ball",
        "go next to the ball",
        "no, the blue one",
        "go to the first door",
        "first",
        "please",
        "drive on until you reach the ball",
        "the ball, the one after the box",
    ],
)
def test_one_thing_is_one_part(text):
    assert split_parts(text) == [text]


@pytest.mark.parametrize("text", ["", " \x00\x1b ?! ", "then", "and after that, then.", "; . ;"])
def test_nothing_said_has_no_parts(text):
    assert split_parts(text) == []


@given(st.lists(st.sampled_from(["then ", "after you ", "before ", "go", " ", ",", ".", ";", "first ", "\x00", "é"])))
def test_any_text_is_cut_without_losing_what_is_no_conjunction(pieces):
    parts = split_parts("".join(pieces))
    assert all(part.strip() == part and part for part in parts)
    assert sum(part.count("é") for part in parts) == pieces.count("é")
