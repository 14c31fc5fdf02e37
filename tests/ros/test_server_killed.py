"""kill -9 of the rosbridge server while the policy drives: the robot stops, nothing stale arrives, it goes on."""

from __future__ import annotations

import time
from pathlib import Path

from conftest import Start
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
        session.drive()
        for outage_s in (3.0, 0.1):
            time.sleep(1.0)
            kills.append(time.monotonic())
            own_server.kill()
            time.sleep(outage_s)
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
                20.0,
            ), session.operator.policy_status()
        time.sleep(0.5)
        commands, robot_ticks = session.log("command"), session.log("tick")
    ticks = session.ticks()

    # The robot's own watchdog: still within three of its ticks after the last command had run out.
    last_command = max(c["t"] for c in commands if c["t"] < returns[0])
    assert last_command < kills[0] + TICK_S + HOPS * lateness.worst_s
    outage = [t for t in robot_ticks if last_command + WATCHDOG_S <= t["t"] < returns[0]][3:]
    assert outage, (
        last_command - kills[0],
        returns[0] - kills[0],
        lateness.worst_s,
        [round(t["t"] - kills[0], 2) for t in robot_ticks][::5],
    )
    assert all(t["speed"] < 0.02 and abs(t["turn_rate"]) < 0.02 for t in outage)

    # Nothing from before a server's start arrives through it, and no command is older than 200 ms: its value tells
    # the tick that sent it, however it travelled.
    sent_at = {round(t["action_sent"][0], 6): t["time"] for t in ticks if t["reason"] == "ok"}
    journeys = [(sent_at[round(c["linear"], 6)], c["t"]) for c in commands if c["angular"] > 0]
    assert len(journeys) > 20
    for killed, started in zip(kills, starts, strict=True):
        assert not [sent for sent, arrived in journeys if sent < killed and arrived > started]
    assert max(arrived - sent for sent, arrived in journeys) <= 0.2 + HOPS * lateness.worst_s
    # And no tick was sent twice.
    values = [round(c["linear"], 6) for c in commands if c["angular"] > 0]
    assert len(values) == len(set(values))

    # The policy said why it stopped, and went on by itself with its memory: the count never restarts.
    assert {"disconnected", "ok"} <= {t["reason"] for t in ticks}
    counts = [t["action_sent"][0] for t in ticks if t["reason"] == "ok"]
    assert counts == sorted(counts)
    assert len(set(counts)) == len(counts)
