"""kill -9 of the rosbridge server while the policy drives: the robot stops, nothing stale arrives, it goes on."""

from __future__ import annotations

import time
from pathlib import Path

from conftest import Start
from robot_session import RobotSession

from ros_bridge.server import RosbridgeServer

WATCHDOG_S, TICK_S = 0.3, 0.1
#: Ticks come from two processes on a shared machine: half a tick of play.
PLAY_S = 0.05


def test_robot_stands_still_gets_nothing_stale_and_resumes(
    own_server: RosbridgeServer, start: Start, artifact: Path, tmp_path: Path
):
    kills, returns = [], []
    with RobotSession(own_server, start, artifact, tmp_path) as session:
        session.drive()
        for outage_s in (3.0, 0.1):
            time.sleep(1.0)
            kills.append(time.monotonic())
            own_server.kill()
            time.sleep(outage_s)
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
    assert last_command < kills[0] + TICK_S
    still_by = last_command + WATCHDOG_S + 3 * TICK_S + PLAY_S
    outage = [t for t in robot_ticks if still_by <= t["t"] < returns[0]]
    assert outage
    assert all(t["speed"] < 0.02 and abs(t["turn_rate"]) < 0.02 for t in outage)

    # No command older than 200 ms: its value tells the tick that sent it, however it travelled.
    sent_at = {round(t["action_sent"][0], 6): t["time"] for t in ticks if t["reason"] == "ok"}
    ages = [c["t"] - sent_at[round(c["linear"], 6)] for c in commands if c["angular"] > 0]
    assert len(ages) > 20
    assert max(ages) <= 0.2
    # And no tick was sent twice.
    values = [round(c["linear"], 6) for c in commands if c["angular"] > 0]
    assert len(values) == len(set(values))

    # The policy said why it stopped, and went on by itself with its memory: the count never restarts.
    assert {"disconnected", "ok"} <= {t["reason"] for t in ticks}
    counts = [t["action_sent"][0] for t in ticks if t["reason"] == "ok"]
    assert counts == sorted(counts)
    assert len(set(counts)) == len(counts)
