"""Goals: one at a time, with an end that is told exactly once and for the right reason."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from mcsd_agent.errors import UserError
from ros_bridge.goal_topics import GoalTopics
from ros_bridge.instruction_goals import DEFAULT_TIMEOUT_S, Goal, InstructionGoals


@pytest.fixture
def world():
    w = SimpleNamespace(now=0.0, said=[], obstacle=None, feedback=[], ends=[], cancel=False)
    w.goals = InstructionGoals(
        hear=w.said.append,
        forget=lambda: w.said.append(None),
        obstacle=lambda: w.obstacle,
        clock=lambda: w.now,
    )
    return w


def begin(w, text="go to the red ball", timeout_s=10.0) -> None:
    w.goals.begin(
        Goal(
            text,
            timeout_s,
            feedback=lambda p, c: w.feedback.append((round(p, 3), c)),
            ended=lambda o: w.ends.append((text, o.state, o.message)),
            cancel_asked=lambda: w.cancel,
        )
    )


def test_time_that_passes_is_the_progress_and_its_end_the_goals(world):
    begin(world, "go   to it")
    for world.now in (2.5, 5.0, 10.0, 11.0):
        world.goals.tick()
    assert world.feedback == [(0.25, -1.0), (0.5, -1.0)]
    ((_, state, message),) = world.ends
    assert state == "aborted"
    assert "10 s are over; nothing here tells" in message
    assert world.said == ["go to it", None]
    assert world.goals.active is None


def test_estimate_is_progress_and_ends_the_goal_when_it_is_sure(world):
    sure = [0.3]
    world.goals = InstructionGoals(hear=world.said.append, forget=lambda: None, estimate=lambda: sure[0])
    begin(world)
    world.goals.tick()
    sure[0] = 0.95
    world.goals.tick()
    assert world.feedback == [(0.3, 0.3)]
    assert [end[1] for end in world.ends] == ["succeeded"]


def test_goal_ends_when_it_is_said_to_be_done_and_not_by_a_high_estimate(world):
    sure, done = [float("nan")], [False]
    world.goals = InstructionGoals(
        hear=world.said.append,
        forget=lambda: world.said.append(None),
        estimate=lambda: sure[0],
        done=lambda: done[0],
        clock=lambda: world.now,
    )
    begin(world)
    world.now = 1.0
    world.goals.tick()  # nobody knows yet: the time that has passed is the progress
    sure[0] = 0.97
    world.goals.tick()
    assert world.feedback == [(0.1, -1.0), (0.97, 0.97)]
    assert world.ends == []
    done[0] = True
    world.goals.tick()
    assert [end[1:] for end in world.ends] == [("succeeded", "done, with confidence 0.97")]
    assert world.said[-1] is None


def test_new_goal_takes_the_place_of_the_old_one_and_is_not_forgotten(world):
    begin(world, "one")
    begin(world, "two")
    assert world.said == ["one", "two"]
    assert [end[:2] for end in world.ends] == [("one", "aborted")]
    assert world.goals.active.instruction == "two"


def test_cancel_by_whoever_sent_it(world):
    begin(world)
    world.cancel = True
    world.goals.tick()
    world.goals.tick()
    assert [end[1] for end in world.ends] == ["canceled"]
    assert world.said[-1] is None


def test_obstacle_and_other_words_end_it(world):
    begin(world)
    world.obstacle = "the emergency stop was pressed"
    world.goals.tick()
    assert world.ends[-1][1:] == ("aborted", "the emergency stop was pressed")
    world.obstacle = None
    begin(world)
    world.goals.interrupt("another instruction was said")
    assert world.ends[-1][1:] == ("aborted", "another instruction was said")
    assert world.said[-1] is not None


@pytest.mark.parametrize(("text", "timeout_s"), [("  ", 1.0), ("go", -1.0), ("go", float("nan")), ("go", float("inf"))])
def test_goal_that_makes_no_sense_is_refused(text, timeout_s):
    with pytest.raises(UserError):
        Goal(text, timeout_s, feedback=lambda p, c: None, ended=lambda o: None)


def test_no_time_is_the_default_time():
    assert Goal("go", 0.0, feedback=lambda p, c: None, ended=lambda o: None).timeout_s == DEFAULT_TIMEOUT_S


class _Node:
    """What `GoalTopics` needs of a node, without a link."""

    def __init__(self):
        self.said = []

    def create_publisher(self, *arguments):
        return SimpleNamespace(publish=lambda message: self.said.append(json.loads(message.data)))

    def create_subscription(self, ros_type, topic, hear, depth):
        self.hear = lambda text: hear(ros_type(data=text))

    def create_service(self, *arguments):
        return None


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("goal", "reason"),
    [
        (f'{{"id": "g", "instruction": "go", "timeout_s": 1{"0" * 400}}}', "timeout_s is 1000"),
        (f'{{"id": "g", "instruction": "go", "timeout_s": 1{"0" * 5000}}}', "digits"),
        (f'{{"id": "g", "instruction": {DEEP}', "flat JSON object"),
        ('{"id": "g", "instruction": "go", "timeout_s": null}', "timeout_s is null; it must be"),
        ('{"id": "g", "instruction": "go", "timeout_s": 1e400}', "timeout_s is inf"),
        ('{"id": "g", "instruction": null}', "instruction is null; it must be a string"),
        ('{"id": "g", "instruction": ["go"]}', "it must be a string"),
        ('{"id": "g", "instruction": "\\ud800"}', "no text that can be written"),
        ('{"id": "g"}', "instruction is empty"),
        ('{"id": null, "instruction": "go"}', "id is null; it must be a string"),
        ('{"id": "g", "words": "go"}', "a goal has no 'words'"),
        ("3", "a goal is a JSON object"),
        ("", "Expecting value"),
    ],
)
def test_malformed_goal_is_refused_and_the_next_one_is_carried_out(world, goal, reason):
    node = _Node()
    GoalTopics(node, world.goals, wake=lambda: None)
    node.hear(goal)
    assert [status["state"] for status in node.said] == ["refused"]
    assert reason in node.said[0]["message"]
    assert world.goals.active is None
    assert world.said == []
    node.hear('{"id": "next", "instruction": "go to the red ball"}')
    assert node.said[-1]["state"] == "active"
    assert world.said == ["go to the red ball"]
