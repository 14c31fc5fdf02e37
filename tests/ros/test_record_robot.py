"""A simulated robot on genuine rclpy, driven by a policy node: recorded live, and from a bag of the same drive."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest
from conftest import ROBOT, Start
from fake_server import eventually
from robot_session import INSTRUCTION, RobotSession

from mcsd_agent.cli import main
from mcsd_agent.policy import PolicyConfig
from mcsd_agent.training.demos import load_demonstrations
from mcsd_agent.training.episodes import Episode
from mcsd_agent.training.imitation import ImitationConfig, train_by_imitation
from mcsd_agent.training.robot_demos import _stop_event
from mcsd_agent.training.runs import policy_for
from ros_bridge.connection import Connection
from ros_bridge.robot_config import load_robot
from ros_bridge.server import RosbridgeServer

OTHER = "face the blue box"


def topics() -> list[str]:
    """Those of the robot's YAML, as the bag recorder takes them."""
    robot = load_robot(ROBOT)
    kinds = {o.topic: o.message_type for o in robot.observations.values()}
    kinds[robot.action.topic] = robot.action.message
    assert robot.instruction is not None
    kinds[robot.instruction.topic] = "std_msgs/msg/String"
    return [f"{topic}={kind}" for topic, kind in kinds.items()]


def wait_for_recorder(server: RosbridgeServer) -> None:
    """Until the live recorder answers that there is nothing to end yet."""
    answers: list[dict] = []
    connection = Connection(server.url)
    try:
        connection.wait_connected()

        def answered() -> bool:
            connection.call("/recorder/end", "std_srvs/srv/SetBool", {"data": True}, keep)
            return eventually(lambda: bool(answers), 0.5)

        def keep(ok: bool, values: dict) -> None:
            if ok:
                answers.append(values)

        assert eventually(answered, 30.0)
    finally:
        connection.close()
    assert answers[0]["success"] is False
    assert "/recorder/begin" in answers[0]["message"]


def check_drive(episodes: list[Episode], session: RobotSession) -> None:
    """Recorded is what the policy sent, for what it saw."""
    first, second = episodes
    assert [first.instruction, second.instruction] == [INSTRUCTION, OTHER]
    assert set(first.observations["instruction"]) == {INSTRUCTION}
    ticks = [t for t in session.ticks() if t["reason"] == "ok" and t["instruction"] == INSTRUCTION]
    sent = np.array([tick["action_sent"] for tick in ticks])
    # The counting policy never does the same twice; before it heard the words it stood still.
    driving = (first.actions != 0).any(1)
    driven = first.actions[driving]
    assert len(driven) > 15
    at = np.abs(driven[:, None] - sent).sum(2).argmin(1)
    np.testing.assert_allclose(driven, sent[at], atol=1e-6)
    # In their order; on a busy machine one may be lost with the link, or share its period with the next one.
    assert set(np.diff(at)) <= {0, 1, 2, 3}
    assert np.mean(np.diff(at) == 1) > 0.7
    # But where a message came between its look and its command.
    seen = [ticks[i]["observation"]["ranges"]["mean"] for i in at]
    recorded = first.observations["ranges"][driving].mean(1)
    assert np.mean(np.abs(recorded - seen) < 1e-4) > 0.7


@pytest.mark.thorough
def test_recorded_are_the_actions_that_were_sent_and_a_policy_learns_from_them(
    own_server: RosbridgeServer, start: Start, artifact: Path, tmp_path: Path
):
    live, bag, converted = (tmp_path / name for name in ("live", "bag", "converted"))
    env = own_server.node_environment()
    recorders = [
        start(Path(__file__).with_name("native_bag.py"), bag, "mcap", *topics(), env=env),
        start("-m", "mcsd_agent", "record", "--robot", ROBOT, "--url", own_server.url, "--out", live, env=env),
    ]
    with RobotSession(own_server, start, artifact, tmp_path) as session:
        operator = session.operator
        assert recorders[0].stdout is not None
        assert recorders[0].stdout.readline() == b"recording\n"
        wait_for_recorder(own_server)
        session.drive()
        assert eventually(lambda: len([t for t in session.ticks() if t["reason"] == "ok"]) > 25, 60.0)
        operator.instruct(OTHER)
        said = len(session.ticks())
        assert eventually(lambda: len(session.ticks()) > said + 10)
        for process in recorders:
            process.send_signal(signal.SIGTERM)
        assert [process.wait(20) for process in recorders] == [0, 0]

        check_drive(load_demonstrations(live), session)
        assert main(["convert", str(bag), "--robot", str(ROBOT), "--out", str(converted), "--json"]) == 0
        episodes = load_demonstrations(converted)
        check_drive(episodes, session)

    words = {e.instruction for e in episodes}
    policy = policy_for("mcsd/Ros-v0", {"robot": str(ROBOT)}, PolicyConfig(width=16, layers=1), 0, words)
    losses = []
    train_by_imitation(
        policy, episodes, ImitationConfig(updates=6), on_progress=lambda p: losses.append(p.loss), report_every=1
    )
    assert len(losses) == 6
    assert np.isfinite(losses).all()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_ends_a_recording_leaves_it_to_be_written(number):
    before = signal.signal(number, signal.SIG_DFL)  # whatever these tests run under
    try:
        with _stop_event() as stop:
            signal.raise_signal(number)
            assert stop.is_set()
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)


def test_a_recording_under_nohup_goes_on_when_the_terminal_closes():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with _stop_event() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.is_set()
    finally:
        signal.signal(signal.SIGHUP, before)
