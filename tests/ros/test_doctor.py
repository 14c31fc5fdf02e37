"""The doctor finds what is wrong, says what to do, and ends with code 1 only then."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import ROBOT, Start
from counting_policy import counting_artifact

from mcsd_agent.cli import main
from ros_bridge.doctor_topics import TopicWatch
from ros_bridge.messages import load
from ros_bridge.robot_config import load_robot
from ros_bridge.server import RosbridgeServer, free_port

JointState = load("sensor_msgs/msg/JointState")
NAMES = ["wheel_left_joint", "wheel_right_joint"]


def run(capfd, *arguments: object) -> tuple[int, dict[str, dict]]:
    """Exit code, and checks by their name's first word."""
    code = main(["doctor", "--json", *map(str, arguments)])
    result = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert result["exit_code"] == code == int(not result["ok"])
    return code, {check["name"].split()[0]: check for check in result["checks"]}


def test_healthy_robot_is_healthy_and_a_sick_one_is_told_why(
    own_server: RosbridgeServer, start: Start, artifact: Path, tmp_path: Path, capfd
):
    start("-m", "ros_bridge.sim_robot", "--robot", ROBOT, env=own_server.node_environment())
    url = ["--url", own_server.url]
    for _ in range(5):  # the robot may still be starting, or the machine busy
        code, checks = run(capfd, "--robot", ROBOT, "--artifact", artifact, "--seconds", 3, *url)
        if code == 0:
            break
    assert code == 0, checks
    assert {name: check["level"] for name, check in checks.items()} == {
        **dict.fromkeys(["robot", "artifact", "server", "ranges", "labels", "wheel_velocities", "clocks"], "ok"),
        "commands": "unknown",
    }
    assert abs(float(checks["clocks"]["found"].split(" is ")[1].split()[0])) < 0.5

    robot = yaml.safe_load(ROBOT.read_text())
    robot["rate_hz"] = 20
    robot["observations"]["ranges"]["scan"].update(start_deg=170, stop_deg=-170)
    robot["observations"]["labels"]["topic"] = "/nowhere"
    path, other = tmp_path / "robot.yaml", tmp_path / "other.mcsd"
    path.write_text(yaml.safe_dump(robot))
    other.write_bytes(counting_artifact(rate_hz=25.0))
    code, checks = run(capfd, "--robot", path, "--artifact", other, "--seconds", 1, *url)
    assert code == 1
    failed = {name: check["found"] for name, check in checks.items() if check["level"] == "failure"}
    assert "runs at 25 Hz" in failed["artifact"]
    assert "asks for 170 to -170" in failed["ranges"]
    assert "no sensor_msgs/msg/Image in 1 s" in failed["labels"]
    assert "20 Hz are needed" in checks["wheel_velocities"]["fix"]


def test_server_that_is_not_there_is_a_failure_with_a_remedy(capfd, monkeypatch):
    monkeypatch.setattr("ros_bridge.rclpy.context.CONNECT_TIMEOUT_S", 0.3)
    code, checks = run(capfd, "--robot", ROBOT, "--url", f"ws://127.0.0.1:{free_port()}")
    assert code == 1
    assert "no rosbridge server" in checks["server"]["found"]
    assert "--url" in checks["server"]["found"]


def test_robot_that_cannot_be_read_ends_with_one_line_and_code_2(capfd):
    assert main(["doctor", "--robot", "nowhere.yaml"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "nowhere.yaml" in line


def test_what_people_publish_is_looked_at_too(fake_server, tmp_path, capfd):
    robot = yaml.safe_load(ROBOT.read_text())
    robot["action"] |= {"message": "geometry_msgs/msg/TwistStamped", "time_topic": "/guard/time"}
    robot |= {"heartbeat": {"topic": "/beat", "max_silence_s": 1}, "emergency_stop": {"topic": "/button"}}
    path = tmp_path / "robot.yaml"
    path.write_text(yaml.safe_dump(robot))

    rosapi = {"/rosapi/subscribers": {"subscribers": ["/base"]}, "/rosapi/topic_type": {"type": "std_msgs/msg/Bool"}}
    done = threading.Event()

    def serve() -> None:
        answered: set[str] = set()
        while not done.wait(0.01):
            fake_server.send({"op": "publish", "topic": "/button", "msg": {"data": True}})
            for _, frame in list(fake_server.frames):
                if frame["op"] == "call_service" and frame["id"] not in answered and frame["service"] in rosapi:
                    answered.add(frame["id"])
                    values = rosapi[frame["service"]]
                    fake_server.send({"op": "service_response", "id": frame["id"], "result": True, "values": values})

    thread = threading.Thread(target=serve)
    thread.start()
    code, checks = run(capfd, "--robot", path, "--url", fake_server.url, "--seconds", 1)
    done.set()
    thread.join()
    assert code == 1  # there are no sensors
    assert "it carries std_msgs/msg/Bool, not sensor_msgs/msg/LaserScan" in checks["ranges"]["found"]
    assert (checks["commands"]["level"], checks["commands"]["found"]) == ("ok", "heard by /base")
    assert (checks["heartbeat"]["level"], checks["emergency_stop"]["level"]) == ("warning", "warning")
    assert "-r 5 /beat" in checks["heartbeat"]["fix"]
    # No guard tells the time that the commands' stamps need.
    assert checks["guard's"]["level"] == "failure"
    assert "mcsd-agent guard --from /cmd_vel" in checks["guard's"]["fix"]
    assert "~/enable" in checks["emergency_stop"]["fix"]


class Heard:
    """A watch of the wheels, with clocks of the test's."""

    def __init__(self) -> None:
        self.now = self.skew = 0.0
        config = load_robot(ROBOT).observations["wheel_velocities"]
        self.watch = TopicWatch("wheels", config, lambda: self.now, lambda: self.now)

    def message(self, sent_at: float, arrives_at: float, **fields) -> None:
        message = JointState(**{"name": NAMES, "velocity": [1.0, 2.0], **fields})
        stamp = 1e6 + sent_at
        message.header.stamp.sec, message.header.stamp.nanosec = int(stamp), round(stamp % 1 * 1e9)
        self.now = arrives_at
        self.watch.hear(message)


def test_rate_age_and_clock_are_measured_whatever_the_other_clock_says():
    heard = Heard()
    for i in range(11):
        heard.message(sent_at=0.1 * i, arrives_at=0.1 * i + (0.35 if i == 5 else 0.05))
    assert heard.watch.rate_hz() == pytest.approx(10.0)
    # Message 4 came at 0.45, the next one at 0.85. Message 5 was late, but message 6 soon took its place.
    assert heard.watch.oldest_s() == pytest.approx(0.4, abs=1e-6)
    assert heard.watch.clock_offset_s() == pytest.approx(0.05 - 1e6, abs=1e-3)


def test_messages_that_cannot_be_used_are_counted_apart():
    heard = Heard()
    heard.message(0.0, 0.0, name=["a"], velocity=[1.0])
    assert (heard.watch.count, heard.watch.rejected) == (0, 1)
    assert "no joint" in heard.watch.error
    heard.message(0.1, 0.1, velocity=np.array([np.nan, 1.0]))
    assert heard.watch.not_finite
