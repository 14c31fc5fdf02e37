"""Instructions are cut where one thing follows another, and come out in the order in which they are to be done."""

from __future__ import annotations

import re

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
        "{0}. After this, {1}",
        "{0}; {1}",
        "{0}. Next, {1}!",
        "{0} and next {1}",
        "{0}, afterwards {1}",
        "{0}, thereafter {1}",
        "{0}, and subsequently {1}",
        "{0}, lastly {1}",
        "{0}, and last of all {1}",
        "first {0}, and later {1}",
        "{0} and later on {1}",
        "First of all, {0}, then {1}",
        "to begin with, {0}; finally {1}",
        "step one, {0}; step two, {1}",
        "Step 1: {0}. Step 2: {1}.",
        "{0}, and once you are there {1}",
        "{0}, and once you\N{RIGHT SINGLE QUOTATION MARK}re done, {1}",
        "{0}; when that's finished, {1}",
        "{0}, as soon as you have done that, {1}",
        "{0}, and after you are done {1}",
        "{0} and when you get there, {1}",
        "{0},, \x00, then ,{1}",
        # something said ahead
        "Right then, {0}. Then {1}.",
        "Okay. {0}, then {1}",
        # turned round
        "{1} after you {0}",
        "after you {0}, {1}",
        "so, er, could you please, after you {0}, {1}?",
        "{1}, but first {0}",
        "{1}, but first of all {0}",
    ],
)
def test_order_is_what_english_says(text):
    assert split_parts(text.format(BALL, BOX)) == [BALL, BOX]


def test_three_parts_with_a_conjunction_among_them():
    assert split_parts(f"{BOX} after you {BALL}, then stop") == [BALL, BOX, "stop"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("turn left, then right", ["turn left", "right"]),
        ("turn left; right; left", ["turn left", "right", "left"]),
        ("say hello, then hi", ["say hello", "hi"]),
        ("first left, then right", ["left", "right"]),
        ("wait 1,5 seconds, then drive to (3,4)", ["wait 1,5 seconds", "drive to (3,4)"]),
    ],
)
def test_nothing_that_is_to_be_done_is_lost(text, parts):
    assert split_parts(text) == parts


@pytest.mark.parametrize(
    "text",
    [
        "please, robot, go to the ball",
        "go next to the ball",
        "go to the next room",
        "no, the blue one",
        "go to the first door",
        "first",
        "please",
        "drive on until you reach the ball",
        "the ball, the one after the box",
        "go to the box after this one",
        # what stands behind "before" may be what must not happen
        "stop before you reach the wall",
        "before you run out of battery, charge",
        "step 1 m to the left",
        "step two metres back",
        "go back to step 3",
        "lower the gripper when it is over the red cube",
        "go to the blue box when you are done with the red ball",
        "take the later train",
        "come no later than noon",
        "a after you b after you c",
    ],
)
def test_one_thing_is_one_part(text):
    assert split_parts(text) == [text]


@pytest.mark.parametrize("text", ["", " \x00\x1b ?! ", "then", "and after that, then.", "; . ;"])
def test_nothing_said_has_no_parts(text):
    assert split_parts(text) == []


@given(
    st.lists(
        st.sampled_from(
            ["then ", "after you ", "but first ", "go ", "right ", "left ", " ", ",", ".", ";", "\x00", "é "]
        )
    )
)
def test_any_text_is_cut_without_losing_what_is_no_conjunction(pieces):
    parts = split_parts("x " + "".join(pieces))
    assert all(part.strip() == part and part for part in parts)
    for word in ("go", "right", "left", "é", "x"):
        said = re.findall(rf"\b{word}\b", "x " + "".join(pieces))
        assert len(re.findall(rf"\b{word}\b", " ".join(parts))) == len(said)
