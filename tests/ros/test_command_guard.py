"""The guard of commands: nothing old, disordered or from the future reaches the driver, and silence stops it."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROBOT, Start, default_context
from fake_server import FakeServer, eventually
from fault_storm import stranger, web_frame

from mcsd_agent.cli import main
from mcsd_agent.errors import UserError
from ros_bridge.action_config import ACKERMANN, TRAJECTORY, TWIST_STAMPED
from ros_bridge.command_guard import Gate, GuardConfig
from ros_bridge.connection import Connection
from ros_bridge.guard_node import CommandGuard
from ros_bridge.policy_node import PolicyNode
from ros_bridge.rclpy.executors import SingleThreadedExecutor
from ros_bridge.robot_time import MAX_SILENCE_S, WINDOW, RobotTime
from ros_bridge.server import RosbridgeServer

S = 1_000_000_000
FROM, TO = "/policy/cmd_vel", "/cmd_vel"


def test_gate_lets_only_fresh_commands_in_their_order_pass():
    gate, now = Gate(max_age_s=0.2, max_ahead_s=0.05), 1000 * S
    assert gate.refusal(now - S // 5, now) is None  # as old as can be
    assert gate.refusal(now - S // 5 - 1, now) == "old"
    assert gate.refusal(now + S // 20, now) is None  # as far ahead as can be
    assert gate.refusal(now + S // 20 + 1, now) == "ahead"
    assert gate.refusal(now, now) == "out_of_order"
    assert gate.refusal(now + S // 20, now) is None  # the same moment is no disorder
    assert gate.refusal(0, now) == "unstamped"
    assert gate.counts == {"passed": 3, "unstamped": 1, "old": 1, "ahead": 1, "out_of_order": 1}


def test_gate_knows_the_order_anew_when_the_robots_clock_is_set_back():
    gate, now = Gate(0.2, 0.05), 10_000 * S
    assert gate.refusal(now, now) is None
    assert gate.refusal(now, now - 3600 * S) == "ahead"  # from before the clock was set
    assert gate.refusal(now - 3600 * S, now - 3600 * S) is None


def test_a_command_never_looks_younger_than_it_is():
    """Random clocks and journeys, sudden changes of both, and a minute without a word."""
    rng, true_ns = random.Random(1), 50 * S
    robot_offset, edge = rng.randrange(10**18), RobotTime(lambda: true_ns)
    last = 0
    for step in range(4000):
        true_ns += rng.randrange(S // 10)
        told = edge.now_ns()
        if told is not None:
            assert told <= true_ns + robot_offset
            assert told >= last
            last = told
        if step % 1000 == 999:
            true_ns += int(MAX_SILENCE_S * S)
            assert edge.now_ns() is None
            last = 0
        journey = rng.randrange(S // 100) + (rng.randrange(10 * S) if rng.random() < 0.05 else 0)
        edge.hear(true_ns + robot_offset - journey)


def test_a_robots_clock_that_is_set_back_is_followed_within_the_window():
    now = 0
    edge = RobotTime(lambda: now)
    for robot_ns in (100 * S, 40 * S):
        for _ in range(WINDOW):
            now, robot_ns = now + S // 10, robot_ns + S // 10
            edge.hear(robot_ns)
    assert edge.now_ns() == robot_ns


# ------------------------------------------------------------------------- the node, over a server that records


Make = Callable[..., CommandGuard]


@pytest.fixture
def make(fake_server: FakeServer) -> Iterator[Make]:
    """Makes the one guard of a test, which its executor spins."""
    with default_context(fake_server.url) as context:
        executor = SingleThreadedExecutor(context=context)

        def make_guard(**options: Any) -> CommandGuard:
            made = CommandGuard(GuardConfig(FROM, TO, **options))
            executor.add_node(made)
            assert eventually(lambda: ("subscribe", FROM) in fake_server.operations())
            return made

        yield make_guard
        executor.shutdown()
        context.shutdown()


def say(server: FakeServer, age_s: float, **content: Any) -> None:
    """A command that was sent `age_s` ago, by the guard's clock."""
    server.send({"op": "publish", "topic": FROM, "msg": stamped(age_s, **content)})


def stamped(age_s: float, **content: Any) -> dict[str, Any]:
    seconds, rest = divmod(time.time_ns() - int(age_s * S), S)
    return {"header": {"stamp": {"sec": seconds, "nanosec": rest}, "frame_id": "base"}, **content}


def driven(server: FakeServer, topic: str = TO) -> list[dict[str, Any]]:
    """What the driver was sent."""
    return [f["msg"] for _, f in list(server.frames) if f["op"] == "publish" and f["topic"] == topic]


def spins_until(executor: SingleThreadedExecutor, condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 20
    while not condition() and time.monotonic() < end:
        executor.spin_once(timeout_sec=0.05)
    return condition()


def judged(guard: CommandGuard, count: int) -> bool:
    """Spins until the guard has judged so many commands."""
    return spins_until(guard.executor, lambda: sum(guard.gate.counts.values()) == count)


def twist(speed: float) -> dict[str, Any]:
    return {"twist": {"linear": {"x": speed}}}


@pytest.mark.parametrize("plain", [False, True])
def test_only_what_is_fresh_reaches_the_driver(make, fake_server, plain):
    # Ages of seconds, limits of seconds: no load of this machine can make one the other.
    guard = make(plain=plain, max_age_s=30.0, max_ahead_s=30.0, timeout_s=60.0)
    for count, (age_s, speed) in enumerate([(5, 0.1), (60, 0.2), (-60, 0.3), (10, 0.4), (2, 0.5)], 1):
        say(fake_server, age_s, **twist(speed))
        assert judged(guard, count)
    assert guard.counts() == {"passed": 2, "unstamped": 0, "old": 1, "ahead": 1, "out_of_order": 1, "stops": 0}
    assert eventually(lambda: len(driven(fake_server)) == 2)
    commands = driven(fake_server)
    assert [(c if plain else c["twist"])["linear"]["x"] for c in commands] == [0.1, 0.5]
    assert plain or commands[0]["header"]["frame_id"] == "base"


def test_silence_stops_the_driver_again_and_again(make, fake_server):
    guard = make(plain=True, timeout_s=0.1)
    say(fake_server, 0.0, **twist(0.3))
    assert judged(guard, 1)
    for count in range(1, 4):
        say(fake_server, 60.0, **twist(0.9))  # what is refused is as good as silence
        assert spins_until(guard.executor, lambda n=count: guard.stops >= n)
    assert eventually(lambda: len(driven(fake_server)) >= 3)
    assert {c["linear"]["x"] for c in driven(fake_server)} <= {0.3, 0.0}
    assert driven(fake_server)[-1]["linear"]["x"] == 0.0


def test_ackermann_drivers_are_guarded_as_well(make, fake_server):
    guard = make(message=ACKERMANN, plain=True, max_age_s=30.0, timeout_s=60.0)
    say(fake_server, 60, drive={"speed": 2.0})
    assert judged(guard, 1)
    say(fake_server, 0, drive={"speed": 1.0, "steering_angle": 0.25})
    assert judged(guard, 2)
    guard.stop()
    assert eventually(lambda: len(driven(fake_server)) == 2)
    assert [(c["speed"], c["steering_angle"]) for c in driven(fake_server)] == [(1.0, 0.25), (0.0, 0.0)]


@pytest.mark.parametrize(("quantity", "stop"), [("positions", None), ("velocities", [0.0, 0.0])])
def test_trajectories_begin_now_and_positions_are_not_driven_to_zero(make, fake_server, quantity, stop):
    guard = make(message=TRAJECTORY, max_age_s=30.0, timeout_s=60.0)
    guard.stop()  # nothing is known yet
    point = {quantity: [0.5, -0.5], "time_from_start": {"sec": 0, "nanosec": 100_000_000}}
    for count, age_s in enumerate((60, 0), 1):
        say(fake_server, age_s, joint_names=["a", "b"], points=[point])
        assert judged(guard, count)
    guard.stop()
    sent = [[0.5, -0.5]] + ([stop] if stop else [])
    assert eventually(lambda: [c["points"][0][quantity] for c in driven(fake_server)] == sent)
    assert all(c["header"]["stamp"] == {"sec": 0, "nanosec": 0} for c in driven(fake_server))
    assert all(c["joint_names"] == ["a", "b"] for c in driven(fake_server))


def test_policy_node_stamps_with_the_time_that_the_guard_tells(fake_server: FakeServer, artifact: Path, tmp_path: Path):
    robot = yaml.safe_load(ROBOT.read_text())
    robot["action"] |= {"message": TWIST_STAMPED, "topic": FROM, "time_topic": "/command_guard/time"}
    path = tmp_path / "robot.yaml"
    path.write_text(yaml.safe_dump(robot))
    with default_context(fake_server.url) as context:
        node = PolicyNode(artifact, path)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)

        def stamps() -> list[float]:
            found = [m["header"]["stamp"] for m in driven(fake_server, FROM)]
            return [stamp["sec"] + 1e-9 * stamp["nanosec"] for stamp in found]

        try:
            assert eventually(lambda: bool(stamps()))
            assert stamps()[-1] == pytest.approx(1e-9)  # older than anything: the robot's time is not known
            began = time.monotonic()
            fake_server.send({"op": "publish", "topic": "/command_guard/time", "msg": {"sec": 5000, "nanosec": 0}})
            assert spins_until(executor, lambda: stamps()[-1] > 1)
            assert 5000 <= stamps()[-1] <= 5000 + time.monotonic() - began
        finally:
            executor.shutdown()
            node.destroy_node()
            context.shutdown()


# ------------------------------------------------------------------------------------------- for real


def test_what_a_stopped_server_held_does_not_reach_the_driver(own_server: RosbridgeServer, start: Start):
    """`mcsd-agent guard` on native rclpy, behind a real server that is stopped with commands in its hands."""
    guard = start(
        "-m", "mcsd_agent", "guard", "--from", FROM, "--to", TO, "--plain", "--json", env=own_server.node_environment()
    )
    speeds: list[float] = []
    counts: dict[str, int] = {}

    def hear_status(message: dict[str, Any]) -> None:
        counts.update({pair["key"]: int(pair["value"]) for pair in message["status"][0]["values"]})

    # A client without our connection's care: it sends also into the socket of a server that does not read.
    with contextlib.closing(Connection(own_server.url)) as driver, stranger(own_server.port) as careless:
        driver.subscribe(TO, "geometry_msgs/msg/Twist", lambda message: speeds.append(message["linear"]["x"]))
        driver.subscribe("/command_guard/status", "diagnostic_msgs/msg/DiagnosticArray", hear_status)

        def send(operation: str, **fields: Any) -> None:
            careless.sendall(web_frame(json.dumps({"op": operation, "topic": FROM, **fields}).encode()))

        def passes(speed: float) -> bool:
            send("publish", msg=stamped(0.0, **twist(speed)))
            time.sleep(0.05)
            return speed in speeds

        send("advertise", type=TWIST_STAMPED)
        assert eventually(lambda: passes(0.1), 20.0)
        pid = own_server.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        send("publish", msg=stamped(0.0, **twist(0.9)))
        time.sleep(0.5)
        os.kill(pid, signal.SIGCONT)
        assert eventually(lambda: counts.get("old", 0) >= 1, 20.0)
        assert eventually(lambda: passes(0.2), 20.0)
        assert 0.9 not in speeds
    guard.send_signal(signal.SIGTERM)
    assert guard.stdout is not None
    result = json.loads(guard.stdout.read().splitlines()[-1])
    assert guard.wait(10) == 0
    assert result["old"] >= 1


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"message": "geometry_msgs/msg/Twist"}, "carries no stamp that can be checked; did you mean"),
        ({"message": TRAJECTORY, "plain": True}, "--plain"),
        ({"max_age_s": 0.0}, "--max-age is 0.0; it must be"),
        ({"max_ahead_s": -1.0}, "--max-ahead is -1.0"),
        ({"timeout_s": float("nan")}, "--timeout is nan"),
        ({"target": FROM}, "--to"),
        ({"source": "cmd_vel"}, "must be absolute"),
    ],
)
def test_what_cannot_be_guarded_is_refused_in_one_line(options, part):
    with pytest.raises(UserError, match=part) as caught:
        GuardConfig(**({"source": FROM, "target": TO} | options))
    assert "\n" not in str(caught.value)


def test_command_line_refuses_bad_input(capsys: pytest.CaptureFixture[str]):
    assert main(["guard", "--from", "cmd_vel", "--to", "/cmd_vel"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
