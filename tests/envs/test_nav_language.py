"""The instruction grammar: what is generated can be parsed, and errors say what to do."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.nav_language import (
    COLORS,
    SHAPES,
    Goal,
    Task,
    corpus,
    describe,
    generate,
    object_goal,
    object_name,
    parse,
)

GOALS = [Goal(v, c, s) for v, c, s in product(("go", "face"), COLORS, SHAPES)] + [Goal("stop")]
tasks = st.lists(st.sampled_from(GOALS), min_size=1, max_size=2).map(lambda goals: Task(tuple(goals)))


@given(tasks, st.integers(0, 2**32 - 1))
def test_every_wording_parses_to_the_task_it_was_made_from(task, seed):
    assert parse(generate(np.random.default_rng(seed), task)) == task


@given(tasks)
def test_canonical_description_parses_to_its_task(task):
    assert parse(describe(task)) == task


@given(tasks, st.integers(0, 2**32 - 1), st.data())
def test_case_and_punctuation_do_not_matter(task, seed, data):
    words = generate(np.random.default_rng(seed), task).split()
    marks = data.draw(st.lists(st.sampled_from([" ", ", ", "! ", " -- ", "...\n"]), min_size=len(words)))
    noisy = "".join(word + mark for word, mark in zip(words, marks, strict=False))
    assert parse(noisy.upper()) == task


@given(tasks, st.integers(0, 2**32 - 1))
def test_corpus_holds_every_generated_word(task, seed):
    words = generate(np.random.default_rng(seed), task).replace(",", "").split()
    assert set(words) <= set(corpus())


def test_corpus_has_no_word_that_is_never_generated():
    rng = np.random.default_rng(0)
    drawn = [Task((GOALS[i], GOALS[j])) for i, j in rng.integers(len(GOALS), size=(3000, 2))]
    spoken = {word for task in drawn for word in generate(rng, task).replace(",", "").split()}
    assert spoken == set(corpus())


@pytest.mark.parametrize(
    ("text", "goals"),
    [
        ("go to the red ball", [("go", "red", "ball")]),
        ("Face the blue box!", [("face", "blue", "box")]),
        ("go to the green cone, then the red box", [("go", "green", "cone"), ("go", "red", "box")]),
        ("stop", [("stop", "", "")]),
        ("please drive to a yellow sphere and after that look at the blue cube",
         [("go", "yellow", "ball"), ("face", "blue", "box")]),
        ("find red block and then stand still", [("go", "red", "box"), ("stop", "", "")]),
    ],
)  # fmt: skip
def test_examples_mean_what_they_say(text, goals):
    assert parse(text) == Task(tuple(Goal(*goal) for goal in goals))


@pytest.mark.parametrize(
    ("text", "named", "hint"),
    [
        ("go to the purple ball", "'purple'", "red, green, blue, yellow"),
        ("go to the red pyramid", "'pyramid'", "ball, sphere"),
        ("fetch the red ball", "'fetch'", "go to"),
        ("go to the red", "nothing", "a shape"),
        ("go to the red ball face the blue box", "'face'", "then"),
        ("go to the red ball then the blue box then stop then stop", "'then'", "the end"),
        ("stop then the red ball", "'the'", "a verb"),
        ("the red ball", "'the'", "a verb"),
        ("  ?! ", "no words", "go to the red ball"),
    ],
)
def test_error_names_the_offending_word_and_what_is_known(text, named, hint):
    with pytest.raises(ValueError, match="instruction") as error:
        parse(text)
    message = str(error.value)
    assert named in message
    assert hint in message
    assert len(message.splitlines()) == 1


def test_labels_count_colours_times_three_plus_shape():
    assert [object_goal("go", k).label for k in range(12)] == list(range(12))
    assert Goal("go", "blue", "cone").label == 2 * 3 + 2
    assert object_name(7) == "blue box"


@pytest.mark.parametrize("wrong", [("run", "red", "ball"), ("stop", "red", "ball"), ("go", "red", "")])
def test_impossible_goals_are_refused(wrong):
    with pytest.raises(ValueError, match="red"):
        Goal(*wrong) if wrong[0] != "run" else Goal("run red")
