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
        "{0} and {1}",
        "{0}, & {1}",
        "{0}. Following that, {1}",
        "{0}, and having done so, {1}",
        "{0}. After doing that, {1}",
        "{0}, and with that done, {1}",
        "{0}; upon completion, {1}",
        "{0}. Once complete, {1}",
        "{0}, and when done, {1}",
        "{0}, and after you're done with that, {1}",
        "{0}, and right after that {1}",
        "{0}. Immediately afterwards, {1}",
        "{0}, and from there {1}",
        "{0}, and now {1}",
        "{0}. Later, {1}",
        "{0}, and only then {1}",
        "{0}. Next up, {1}",
        "{0}. Next step: {1}",
        "{0}. As your next task, {1}",
        "{0}. Your next task is to {1}",
        "{0} - and then {1}",
        "{0} -> {1}",
        "{0}. Done? Then {1}",
        "{0}. Okay, then {1}",
        # something said ahead
        "Right then, {0}. Then {1}.",
        "Okay. {0}, then {1}",
        # turned round
        "{1} after you {0}",
        "after you {0}, {1}",
        "so, er, could you please, after you {0}, {1}?",
        "sorry to bother you, but could you after you {0}, {1}?",
        "let's see if you can before you {1}, {0}",
        "{1}, but first {0}",
        "{1}, but first of all {0}",
        "{0} before you {1}",
        "before you {1}, {0}",
        "{0}, before you {1}",
        "ok, before you {1}, {0}",
        "once you {0}, {1}",
        "hey, as soon as you {0}, {1}",
        "{1}, but {0} first",
        "{0}, and after it {1}",
        "{0}, followed by this: {1}",
        "two things: {0}, then {1}",
        "start off: {0}. Next, {1}",
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
        ("go to the ball and face the box and touch the cone", ["go to the ball", "face the box", "touch the cone"]),
        ("go to the ball, turn to the box and face the cone", ["go to the ball", "turn to the box", "face the cone"]),
        ("go to the ball, the red one, and face the box", ["go to the ball, the red one", "face the box"]),
        ("turn left after you go to the ball", ["go to the ball", "turn left"]),
        ("turn to our ball and go to this box", ["turn to our ball", "go to this box"]),
        ("pick up a key and put the ball next to the box", ["pick up a key", "put the ball next to the box"]),
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
        "stop at the red ball before you go to the box",
        "turn away from the wall before you drive into the box",
        "go to the red ball before you get to the box",
        "look at the cup before you knock the vase over",
        "please do not go to the ball before you face the box",
        "go to the ball before you face the box before you go to the cone",
        "step 1 m to the left",
        "step two metres back",
        "go back to step 3",
        "lower the gripper when it is over the red cube",
        "go to the blue box when you are done with the red ball",
        "take the later train",
        "come no later than noon",
        "a after you b after you c",
        "once you are ready, go to the ball",
        "as soon as you see the red ball, stop",
        # "and" within one thing
        "find the red ball and drive up to it",
        "go to the red ball and the blue box",
        "stop between the red ball and the blue box",
        "go to the ball that is red and near the wall",
        "turn around and look at the red ball",
        "be a dear and face the blue box",
        "go to the ball - the red one",
        "go to the box when done with the ball",
        "on completion of the tour",
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


@pytest.mark.parametrize("word", ["the ball ", "go and the ", "before you ", "to the a and ", "after you, ", "so, "])
def test_ten_thousand_letters_are_cut_in_the_end_and_nothing_is_lost(word):
    text = word * (10_000 // len(word))
    assert re.findall(r"\w+", " ".join(split_parts(text))) == re.findall(r"\w+", text)
