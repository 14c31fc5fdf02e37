"""The doctor finds what is wrong, says what to do, and ends with code 1 only then."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import ROBOT, Start
from counting_policy import counting_artifact
from fake_server import FakeServer

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


def operated_robot(folder: Path, **changes: object) -> Path:
    """The YAML of a robot with a heartbeat, a button and a guard."""
    robot = yaml.safe_load(ROBOT.read_text())
    robot["action"] |= {"message": "geometry_msgs/msg/TwistStamped", "time_topic": "/guard/time"}
    robot |= {"heartbeat": {"topic": "/beat", "max_silence_s": 1}, "emergency_stop": {"topic": "/button"}}
    robot["action"] |= changes
    path = folder / "robot.yaml"
    path.write_text(yaml.safe_dump(robot))
    return path


#: What the robot above expects.
TYPES = {
    "/beat": "std_msgs/msg/Empty",
    "/button": "std_msgs/msg/Bool",
    "/guard/time": "builtin_interfaces/msg/Time",
    "/cmd_vel": "geometry_msgs/msg/TwistStamped",
}


@contextlib.contextmanager
def graph(server: FakeServer, types: Mapping[str, str], *messages: tuple[str, object]) -> Iterator[None]:
    """A rosapi that knows `types` by topic and one subscriber, /base; `messages` are said again and again."""
    done = threading.Event()

    def values(frame: dict) -> dict | None:
        if frame["service"] == "/rosapi/subscribers":
            return {"subscribers": ["/base"]}
        return {"type": types.get(frame["args"]["topic"], "")} if frame["service"] == "/rosapi/topic_type" else None

    def serve() -> None:
        answered: set[str] = set()
        while not done.wait(0.01):
            for topic, message in messages:
                server.send({"op": "publish", "topic": topic, "msg": message})
            for _, frame in list(server.frames):
                if frame["op"] == "call_service" and frame["id"] not in answered and values(frame) is not None:
                    answered.add(frame["id"])
                    answer = {"op": "service_response", "id": frame["id"], "result": True, "values": values(frame)}
                    server.send(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    yield
    done.set()
    thread.join()


def test_what_people_publish_is_looked_at_too(fake_server, tmp_path, capfd):
    with graph(fake_server, {**TYPES, "/scan": "std_msgs/msg/Bool"}, ("/button", {"data": True})):
        path = operated_robot(tmp_path)
        code, checks = run(capfd, "--robot", path, "--url", fake_server.url, "--seconds", 1)
    assert code == 1  # there are no sensors
    assert "it carries std_msgs/msg/Bool, not sensor_msgs/msg/LaserScan" in checks["ranges"]["found"]
    assert (checks["commands"]["level"], checks["commands"]["found"]) == ("ok", "heard by /base")
    assert (checks["heartbeat"]["level"], checks["emergency_stop"]["level"]) == ("warning", "warning")
    assert "-r 5 /beat" in checks["heartbeat"]["fix"]
    # No guard tells the time that the commands' stamps need.
    assert checks["guard's"]["level"] == "failure"
    assert "mcsd-agent guard --from /cmd_vel" in checks["guard's"]["fix"]
    assert "~/enable" in checks["emergency_stop"]["fix"]


def test_silence_of_people_is_a_warning(fake_server, tmp_path, capfd):
    with graph(fake_server, {}):
        path = operated_robot(tmp_path)
        _, checks = run(capfd, "--robot", path, "--url", fake_server.url, "--seconds", 0.2)
    assert (checks["heartbeat"]["level"], checks["emergency_stop"]["level"]) == ("warning", "warning")
    assert checks["emergency_stop"]["found"] == "no std_msgs/msg/Bool in 0.2 s"


@pytest.mark.parametrize(
    ("name", "topic", "other", "fix"),
    [
        ("commands", "/cmd_vel", "geometry_msgs/msg/Twist", "write `message: geometry_msgs/msg/Twist` under action"),
        ("commands", "/cmd_vel", "std_msgs/msg/Int8", "under action.topic"),
        ("emergency_stop", "/button", "std_msgs/msg/Int8", "under emergency_stop.topic"),
        ("heartbeat", "/beat", "std_msgs/msg/Bool", "under heartbeat.topic"),
        ("guard's", "/guard/time", "std_msgs/msg/Header", "under action.time_topic"),
    ],
)
def test_another_type_than_the_yaml_has_is_a_failure_that_names_both(
    fake_server, tmp_path, capfd, name, topic, other, fix
):
    with graph(fake_server, {**TYPES, topic: other}):
        path = operated_robot(tmp_path)
        code, checks = run(capfd, "--robot", path, "--url", fake_server.url, "--seconds", 0.2)
    assert (code, checks[name]["level"]) == (1, "failure")
    assert other in checks[name]["found"]
    assert f"not {TYPES[topic]}" in checks[name]["found"]
    assert fix in checks[name]["fix"]
    assert "\n" not in checks[name]["found"] + checks[name]["fix"]


def test_types_are_asked_for_before_the_doctor_makes_topics_carry_its_own(fake_server, tmp_path, capfd):
    with graph(fake_server, TYPES):
        run(capfd, "--robot", operated_robot(tmp_path), "--url", fake_server.url, "--seconds", 0.2)
    operations = [frame.get("service", frame["op"]) for _, frame in fake_server.frames]
    last = max(i for i, operation in enumerate(operations) if operation == "/rosapi/topic_type")
    assert last < operations.index("subscribe")


BASE_WITH_OTHER_TYPES = """
import rclpy
from geometry_msgs.msg import Twist
from std_msgs.msg import Empty, Int8
rclpy.init()
node = rclpy.create_node("fake")
node.create_subscription(Twist, "/cmd_vel", print, 1)
button = node.create_publisher(Int8, "/button", 1)
node.create_publisher(Empty, "/beat", 1)
node.create_timer(0.1, lambda: button.publish(Int8(data=1)))
rclpy.spin(node)
"""
ANOTHER_BASE = """
import rclpy
from geometry_msgs.msg import TwistStamped
rclpy.init()
node = rclpy.create_node("other")
node.create_subscription(TwistStamped, "/cmd_vel", print, 1)
rclpy.spin(node)
"""


def test_native_doctor_compares_types_too(own_server: RosbridgeServer, start: Start, tmp_path: Path):
    environment = own_server.node_environment()
    start("-c", BASE_WITH_OTHER_TYPES, env=environment)

    def found(level: str, word: str) -> dict[str, dict]:
        """The checks once the commands' says so: discovery takes its time, and names come after types."""
        path = operated_robot(tmp_path)
        command = ("-m", "mcsd_agent", "doctor", "--native", "--json", "--robot", path, "--seconds", "3")
        for _ in range(5):
            process = start(*command, env=environment)
            output, _ = process.communicate(timeout=60)
            assert process.returncode == 1
            checks = {c["name"].split()[0]: c for c in json.loads(output.splitlines()[-1])["checks"]}
            if checks["commands"]["level"] == level and word in checks["commands"]["found"]:
                break
        return checks

    checks = found("failure", "/fake")
    expected = "/fake expects geometry_msgs/msg/Twist, not geometry_msgs/msg/TwistStamped"
    assert (checks["commands"]["level"], checks["commands"]["found"]) == ("failure", expected)
    assert checks["emergency_stop"]["level"] == "failure"
    assert checks["emergency_stop"]["found"] == "it carries std_msgs/msg/Int8, not std_msgs/msg/Bool"
    assert checks["heartbeat"]["level"] == "warning"
    # Somebody hears them, somebody else never will.
    start("-c", ANOTHER_BASE, env=environment)
    checks = found("warning", "/fake")
    assert (checks["commands"]["level"], checks["commands"]["found"]) == ("warning", expected)


def test_scan_with_nan_is_a_failure_that_says_what_nan_may_be(fake_server, tmp_path, capfd):
    robot = yaml.safe_load(ROBOT.read_text())
    scan = {"ranges": [None] * 120, "angle_min": -1.06, "angle_increment": 2.12 / 119, "range_max": 10.0}
    path = tmp_path / "robot.yaml"
    for nan, remedy in (("fault", True), ("no_echo", False)):
        robot["observations"]["ranges"]["scan"]["nan"] = nan
        path.write_text(yaml.safe_dump(robot))
        with graph(fake_server, {}, ("/scan", scan)):
            code, checks = run(capfd, "--robot", path, "--url", fake_server.url, "--seconds", 0.5)
        assert (code, checks["ranges"]["level"]) == (1, "failure")
        assert "with NaN or infinity" in checks["ranges"]["found"]
        assert ("`nan: no_echo`" in checks["ranges"]["fix"]) == remedy


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
