"""kill -9 of the rosbridge server while the policy drives: the robot stops, nothing stale arrives, it goes on."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

from conftest import Start
from fake_server import eventually
from lateness import Lateness
from robot_session import RobotSession

from ros_bridge.server import RosbridgeServer

WATCHDOG_S, TICK_S = 0.3, 0.1
#: Processes on a command's way, each of which has to be given the processor: policy, server, robot.
HOPS = 3


def test_robot_stands_still_gets_nothing_stale_and_resumes(
    own_server: RosbridgeServer, start: Start, artifact: Path, tmp_path: Path
):
    kills, starts, returns = [], [], []
    with Lateness() as lateness, RobotSession(own_server, start, artifact, tmp_path) as session:

        def drives_on() -> bool:
            """Whether the robot hears ten commands more."""
            before = len(driving(session))
            return eventually(lambda: len(driving(session)) >= before + 10, 60.0)

        def is_out_of_commands() -> bool:
            """Whether the robot has gone on for a dozen ticks after its last command had run out."""
            over = session.log("command")[-1]["t"] + WATCHDOG_S
            return len([t for t in session.log("tick") if t["t"] >= over]) >= 12

        session.drive()
        for is_short in (False, True):
            assert drives_on()
            kills.append(time.monotonic())
            own_server.kill()
            # Nobody knows how often a busy machine lets the robot tick in so many seconds.
            assert is_short or eventually(is_out_of_commands, 60.0)
            time.sleep(0.1 if is_short else 1.0)
            starts.append(time.monotonic())
            own_server.start()
            returns.append(time.monotonic())
            mark = returns[-1]
            # Fresh reports of both sides, through the new server.
            assert session.operator.wait(
                lambda m=mark: (
                    session.is_driving()
                    and session.operator.sim_state().received_at > m
                    and session.operator.policy_status().received_at > m
                ),
                60.0,
            ), session.operator.policy_status()
        assert drives_on()
        commands, robot_ticks = session.log("command"), session.log("tick")
        last = commands[-1]["t"]
        assert eventually(lambda: session.ticks()[-1]["time"] > last)
        ticks = session.ticks()

    # How long this machine lets a process wait: one that sleeps, and the robot, which has work to do.
    robot_late_s = max(after["t"] - before["t"] for before, after in pairwise(robot_ticks)) - TICK_S
    slack_s = HOPS * max(lateness.worst_s, robot_late_s)

    # The robot's own watchdog: still within three of its ticks after the last command had run out. The new server may
    # pass commands before its start has returned here.
    last_command = max(c["t"] for c in commands if c["t"] < starts[0])
    assert last_command < kills[0] + TICK_S + slack_s
    outage = [t for t in robot_ticks if last_command + WATCHDOG_S <= t["t"] < starts[0]][3:]
    assert outage, (last_command - kills[0], starts[0] - kills[0], slack_s)
    assert all(t["speed"] < 0.02 and abs(t["turn_rate"]) < 0.02 for t in outage)

    # Nothing from before a server's start arrives through it, and no command is older than 200 ms: its value tells
    # the tick that sent it, however it travelled.
    sent_at = {round(t["action_sent"][0], 6): t["time"] for t in ticks if t["reason"] == "ok"}
    journeys = [(sent_at[round(c["linear"], 6)], c["t"]) for c in commands if c["angular"] > 0]
    assert len(journeys) > 20
    for killed, started in zip(kills, starts, strict=True):
        assert not [sent for sent, arrived in journeys if sent < killed and arrived > started + slack_s]
    assert max(arrived - sent for sent, arrived in journeys) <= 0.2 + slack_s
    # And no tick was sent twice.
    values = [round(c["linear"], 6) for c in commands if c["angular"] > 0]
    assert len(values) == len(set(values))

    # The policy said why it stopped, and went on by itself with its memory: the count never restarts.
    assert {"disconnected", "ok"} <= {t["reason"] for t in ticks}
    counts = [t["action_sent"][0] for t in ticks if t["reason"] == "ok"]
    assert counts == sorted(counts)
    assert len(set(counts)) == len(counts)


def driving(session: RobotSession) -> list[dict]:
    """Commands other than stops that the robot has heard."""
    return [c for c in session.log("command") if c["angular"] > 0]
