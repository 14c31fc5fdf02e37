"""Messages to episodes: which ticks there are, what belongs to them, and where an episode ends."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from fake_robot import ROBOT, robot_config
from hypothesis import given
from hypothesis import strategies as st

from ros_bridge.messages import load
from ros_bridge.recording import DrivenEpisode, EpisodeRecorder, tick_times

Twist, JointState = load("geometry_msgs/msg/Twist"), load("sensor_msgs/msg/JointState")
PERIOD_S = 1 / ROBOT["rate_hz"]
WORDS = {"instruction": {"topic": "/instruction"}}


class Drive:
    """Tells a recorder what a robot would; `at` in periods."""

    def __init__(self, by_instruction: bool = False, **changes: Any) -> None:
        self.episodes: list[DrivenEpisode] = []
        self.recorder = EpisodeRecorder(robot_config(**changes), self.episodes.append, by_instruction=by_instruction)

    def see(self, at: float, position: float) -> None:
        self.recorder.observe("joint", at * PERIOD_S, JointState(name=["a"], position=[position]))

    def command(self, at: float, speed: float) -> None:
        message = Twist()
        message.linear.x = speed
        self.recorder.command(at * PERIOD_S, message)

    def both(self, at: float, value: float) -> None:
        """An observation, and just after it the command that it led to."""
        self.see(at, value)
        self.command(at + 0.05, value)

    def only(self) -> DrivenEpisode:
        (episode,) = self.episodes
        return episode


@given(st.integers(1, 60), st.floats(0.98, 1.02), st.lists(st.floats(-0.1, 0.1), min_size=60, max_size=60))
def test_controller_near_the_robots_rate_gives_one_tick_per_command(count, pace, jitter):
    times = [(k * pace + jitter[k]) * PERIOD_S for k in range(count)]
    assert [index for _, index in tick_times(times, PERIOD_S)] == list(range(count))


@given(st.lists(st.floats(0.01, 4.0), min_size=1, max_size=60))
def test_ticks_ascend_at_the_robots_rate_and_never_know_a_later_command(gaps):
    times = np.cumsum(gaps).tolist()
    ticks = tick_times(times, 1.0)
    assert ticks[0] == (times[0], 0)
    for (before, first), (at, index) in pairwise(ticks):
        assert before < at <= before + 2.0
        assert index >= first
    assert all(times[index] <= at for at, index in ticks)
    # As many as the time between the first and the last command holds.
    assert len(ticks) == pytest.approx((times[-1] - times[0]) + 1, abs=1 + 0.15 * len(ticks))


def test_tick_has_the_newest_observation_before_its_command():
    drive = Drive()
    drive.recorder.begin(0.0)
    for k in range(5):
        drive.both(k + 1, float(k) / 10)
    drive.see(6.0, 9.0)
    drive.recorder.end(7 * PERIOD_S, True)
    episode = drive.only()
    np.testing.assert_allclose(episode.observations["joint"][:, 0], np.arange(5) / 10, rtol=1e-6)
    np.testing.assert_allclose(episode.actions[:, 0], np.arange(5) / 10, rtol=1e-6)
    assert (episode.success, episode.cut) == (True, "")


def test_of_several_commands_in_a_period_one_counts():
    drive = Drive()
    drive.recorder.begin(0.0)
    for k in range(28):
        drive.see(1 + k / 3, float(k))
        drive.command(1.05 + k / 3, float(k % 3) / 10)
    drive.recorder.end(12 * PERIOD_S)
    assert len(drive.only()) == 10


def test_seldom_commands_go_on_until_the_watchdog_and_then_the_robot_stands():
    # The base's watchdog is 5 periods.
    drive = Drive()
    drive.recorder.begin(0.0)
    for k in range(1, 30):
        drive.see(float(k), 0.0)
        if k in (2, 20):
            drive.command(k + 0.05, 0.3)
    drive.recorder.end(31 * PERIOD_S)
    speeds = drive.only().actions[:, 0]
    np.testing.assert_allclose(speeds, [0.3] * 5 + [0.0] * 13 + [0.3], rtol=1e-6)


def test_episode_begins_when_everything_is_seen_and_a_gap_ends_it():
    drive = Drive()
    drive.recorder.begin(0.0)
    drive.command(1.0, 0.1)
    for k in range(2, 6):
        drive.both(k, 0.2)
    for k in range(6, 20):  # the sensor is silent, for longer than its 5 periods
        drive.command(k + 0.05, 0.3)
    for k in range(20, 25):
        drive.both(k, 0.4)
    drive.recorder.end(26 * PERIOD_S, True)
    episode = drive.only()
    assert len(episode) == 8  # four, and four more on the last that was seen
    assert episode.actions[:, 0].max() == pytest.approx(0.3)
    assert (episode.success, episode.cut) == (None, "stale:joint")
    assert drive.recorder.dropped == {"stale:joint": 1}


def test_unusable_messages_are_counted_and_change_nothing():
    drive = Drive()
    drive.recorder.begin(0.0)
    drive.both(1.0, 0.1)
    drive.recorder.observe("joint", 1.5 * PERIOD_S, JointState(name=["other"], position=[5.0]))
    drive.see(1.6, float("nan"))
    drive.command(1.7, float("inf"))
    drive.command(2.05, 0.2)
    drive.recorder.end(3 * PERIOD_S)
    np.testing.assert_allclose(drive.only().observations["joint"], [[0.1], [0.1]], rtol=1e-6)
    assert drive.recorder.dropped == {"unreadable joint": 2, "unreadable command": 1}


def test_episodes_without_a_command_or_an_observation_are_none():
    drive = Drive()
    drive.recorder.begin(0.0)
    drive.see(1.0, 0.0)
    drive.recorder.end(2 * PERIOD_S)
    drive.recorder.begin(20 * PERIOD_S)
    drive.command(40.0, 0.1)
    drive.recorder.end(41 * PERIOD_S)
    assert drive.episodes == []
    assert drive.recorder.dropped == {"no command": 1, "stale:joint": 1}


def test_instructions_begin_and_end_episodes():
    drive = Drive(by_instruction=True, **WORDS)
    drive.both(0.0, 0.1)  # before anything was said
    for start, text in ((1.0, " go  left "), (10.0, "go right"), (20.0, "")):
        drive.recorder.instruct(start * PERIOD_S, text)
        for k in range(1, 4):
            drive.both(start + k, 0.2)
    drive.recorder.end(30 * PERIOD_S)
    assert [e.instruction for e in drive.episodes] == ["go left", "go right"]
    assert [len(e) for e in drive.episodes] == [3, 3]
    assert drive.episodes[0].observations["instruction"] == ["go left"] * 3


def test_words_are_visible_for_as_many_ticks_as_the_robot_shows_them():
    drive = Drive(**{"instruction": {"topic": "/instruction", "spoken_ticks": 2}})
    drive.recorder.begin(0.0)
    for k in range(1, 9):
        if k in (1, 5):
            drive.recorder.instruct((k - 0.5) * PERIOD_S, f"text {k}")
        drive.both(k, 0.2)
    drive.recorder.end(9 * PERIOD_S)
    assert drive.only().observations["instruction"] == ["text 1"] * 2 + [""] * 2 + ["text 5"] * 2 + [""] * 2
    assert drive.only().instruction == "text 1"


def test_forgotten_episode_ends_by_itself(monkeypatch):
    monkeypatch.setattr("ros_bridge.recording.MAX_EPISODE_S", 20 * PERIOD_S)
    drive = Drive()
    drive.recorder.begin(0.0)
    for k in range(40):
        drive.both(k, 0.1)
    assert len(drive.only()) == 21
    assert not drive.recorder.under_way
