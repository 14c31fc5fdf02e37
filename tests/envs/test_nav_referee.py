"""What counts as done and what as wrong, on hand-made situations."""

import numpy as np
import pytest

from envs.nav_language import parse
from envs.nav_referee import FACE_TICKS, STOP_TICKS, Situation, begin, judge

RED_BALL, GREEN_BOX, BLUE_CONE = 0, 4, 8
OBJECTS = {RED_BALL: (2.0, 0.0), GREEN_BOX: (0.0, 2.0), BLUE_CONE: (-2.0, 0.0)}
EVERYTHING = np.arange(14)


def at(x=0.0, y=0.0, theta=0.0, speed=0.0, turn_rate=0.0, labels=EVERYTHING):
    return Situation(OBJECTS, (x, y, theta), (speed, turn_rate), labels)


def run(text, situations, wrong_object_ends=True):
    progress = begin(parse(text), at())
    for now in situations:
        progress = judge(progress, now, wrong_object_ends)
    return progress


@pytest.mark.parametrize(
    ("now", "reached"),
    [
        (at(1.51), True),
        (at(1.49), False),
        (at(1.6, theta=0.49), True),
        (at(1.6, theta=-0.51), False),
        (at(1.6, theta=2 * np.pi), True),
    ],
)
def test_go_needs_half_a_metre_and_half_a_radian(now, reached):
    assert run("go to the red ball", [now]).succeeded == reached


def test_face_needs_to_be_held():
    assert not run("face the red ball", [at()] * (FACE_TICKS - 1)).succeeded
    assert run("face the red ball", [at()] * FACE_TICKS).succeeded


@pytest.mark.parametrize(
    "spoiler",
    [at(theta=0.2), at(speed=0.1), at(turn_rate=0.2), at(labels=np.array([12, 13]))],
    ids=["bearing", "speed", "turning", "hidden"],
)
def test_face_starts_over_when_its_condition_breaks(spoiler):
    assert not run("face the red ball", [at()] * (FACE_TICKS - 1) + [spoiler] + [at()] * (FACE_TICKS - 1)).succeeded


def test_stop_needs_a_second_of_stillness():
    moving = at(speed=0.2)
    assert not run("stop", [at()] * (STOP_TICKS - 1) + [moving] + [at()] * (STOP_TICKS - 1)).succeeded
    assert run("stop", [moving] + [at()] * STOP_TICKS).succeeded


def test_parts_are_done_in_order():
    first, second = at(1.6), at(0.0, 1.6, np.pi / 2)
    assert run("go to the red ball, then the green box", [first, second]).succeeded
    progress = run("go to the red ball, then the green box", [second, at(), first], wrong_object_ends=False)
    assert (progress.stage, progress.over) == (1, False)


def test_second_object_first_is_wrong():
    progress = run("go to the red ball, then the green box", [at(0.0, 1.6, np.pi / 2)])
    assert (progress.failed, progress.succeeded) == (True, False)


def test_wrong_object_matters_only_where_it_ends_the_episode():
    wrong = at(-1.6, theta=np.pi)
    assert run("go to the red ball", [wrong]).failed
    assert run("go to the red ball", [wrong, at(1.6)], wrong_object_ends=False).succeeded


def test_nothing_changes_after_failure():
    assert not run("go to the red ball", [at(-1.6, theta=np.pi), at(1.6)]).succeeded


def test_facing_a_wrong_object_fails_only_when_told_to_face():
    # turned to the green box, after having been clear of it
    wrong = [at(theta=np.pi / 2)] * FACE_TICKS
    assert run("face the red ball", wrong).failed
    assert not run("go to the red ball", wrong).failed
    assert not run("face the red ball", wrong[1:]).failed


def test_object_already_done_is_not_wrong_later():
    turn_back = [at(1.6), at(), at(1.6)]
    progress = run("go to the red ball, then the green box", turn_back)
    assert (progress.stage, progress.failed) == (1, False)


def test_object_at_which_a_task_begins_is_excused_until_left():
    beside = at(1.6)
    progress = begin(parse("go to the green box"), beside)
    progress = judge(progress, beside, True)
    assert not progress.failed
    for now in (at(0.0), beside):
        progress = judge(progress, now, True)
    assert progress.failed


def test_stop_has_no_wrong_objects():
    assert not run("stop", [at(1.6, speed=0.3)]).failed
