"""`mcsd-agent doctor`: is everything there that a robot needs to be driven, and if not, what is to be done.

Nothing is published and no command is sent. What is looked at: the artifact and the robot's YAML, the server, the
topic of every observation (messages, types, rates, ages, clocks), what people and the guard say, and whether somebody
hears the commands.
"""

from __future__ import annotations

import importlib.util
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from mcsd_agent.errors import UserError
from mcsd_agent.runtime import read_package
from mcsd_agent.runtime.previous_action import NAME as PREVIOUS_ACTION
from ros_bridge.action_config import MESSAGES, TIME
from ros_bridge.doctor_graph import Graph
from ros_bridge.doctor_topics import TopicWatch
from ros_bridge.robot_config import OPERATOR_TYPES, ObservationConfig, RobotConfig, check_fit, load_robot

#: Clocks further apart than this are worth a word.
_CLOCKS_S = 0.5
#: A rate that is lower than asked for by less than this share is jitter.
_RATE_SLACK = 0.1

Level = Literal["ok", "warning", "failure", "unknown"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at, what was found, and what to do about it."""

    name: str
    level: Level
    found: str
    fix: str = ""


def examine(
    robot: str | Path, *, artifact: str | Path | None = None, url: str | None = None, native: bool = False,
    seconds: float = 3.0,
) -> list[Check]:  # fmt: skip
    """All checks, in the order in which to put things right; listens for `seconds`.

    `native=True` looks through rclpy instead of a rosbridge server. Raises `UserError` for a robot's YAML that cannot
    be read.
    """
    config = load_robot(robot)
    if not 0 < seconds <= 600:
        raise UserError(f"seconds={seconds:g} must be above 0 and at most 600")
    checks = [Check("robot", "ok", f"{config.name}, {len(config.observations)} observations")]
    needed: dict[str, float] = dict.fromkeys(config.observations, config.rate_hz)
    if artifact is not None:
        check, rate_hz, names = _artifact(artifact, config)
        checks.append(check)
        needed = {name: rate_hz or config.rate_hz for name in config.observations if names is None or name in names}
    cameras = [name for name in needed if config.observations[name].camera is not None]
    if cameras and importlib.util.find_spec("cv2") is None:
        fix = "pip install opencv-python-headless, or the extra [camera]"
        checks.append(Check("opencv", "failure", f"not installed; {cameras[0]} is a camera", fix))
        needed = {name: rate for name, rate in needed.items() if name not in cameras}
    return [*checks, *_look(config, needed, url, native, seconds)]


def to_json(checks: list[Check]) -> dict[str, Any]:
    """The result of the command: exit code 1 when something has to be put right."""
    failed = any(check.level == "failure" for check in checks)
    return {"checks": [asdict(check) for check in checks], "ok": not failed, "exit_code": int(failed)}


def _artifact(path: str | Path, config: RobotConfig) -> tuple[Check, float | None, set[str] | None]:
    try:
        spec = read_package(path).spec
        check_fit(spec.observation, spec.action, spec.rate_hz, config)
    except UserError as error:
        return Check("artifact", "failure", str(error), "export for this robot, or correct its YAML"), None, None
    names = set(spec.observation) - {PREVIOUS_ACTION}
    success = "predicts success" if spec.predicts_success else "does not predict success: goals end with their time"
    return Check("artifact", "ok", f"fits, {spec.rate_hz:g} Hz, {success}"), spec.rate_hz, names


def _look(config: RobotConfig, needed: dict[str, float], url: str | None, native: bool, seconds: float) -> list[Check]:
    if native:
        from ros_bridge.ros_process import import_native

        import_native()
    # The backend is chosen by its import.
    from ros_bridge.ros_link import RosLink

    where = "native rclpy" if native else "server"
    try:
        link = RosLink(config, "doctor", url=url)
    except UserError as error:
        return [Check(where, "failure", str(error), "nothing else can be looked at before this")]
    try:
        watches = [TopicWatch(name, config.observations[name]) for name in needed]
        graph = Graph(link.node, native, [topic for _, topic, _ in config.topics()])
        began = time.monotonic()
        for watch in watches:
            link.subscribe(watch.config.topic, watch.config.message_type, watch.hear, sensor=True, depth=50)
        heard: dict[str, list[Any]] = {"heartbeat": [], "emergency_stop": []}
        for key, messages in heard.items():
            topic = getattr(config, key).topic if getattr(config, key) is not None else None
            if topic is not None:
                link.subscribe(topic, OPERATOR_TYPES[key], messages.append, sensor=True, depth=10)
        times: list[Any] = []
        if config.action.time_topic is not None:
            link.subscribe(config.action.time_topic, TIME, times.append, sensor=True, depth=10)
        time.sleep(max(0.0, seconds - (time.monotonic() - began)))
        said = "" if native else _server_words(link)
        server = Check(where, "ok", "answers")
        if said:
            server = Check(where, "warning", f"says: {said}", "its log says more")
        topics = [_topic(watch, watch.config.rate_hz or needed[watch.name], seconds, graph) for watch in watches]
        people = _heartbeat(config, len(heard["heartbeat"]), seconds, graph)
        people += _emergency_stop(config, heard["emergency_stop"], seconds, graph)
        guard = _guard(config, len(times), seconds, graph)
        return [server, *topics, _clocks(watches), *people, *guard, _commands(config, graph)]
    finally:
        link.close()


def _topic(watch: TopicWatch, rate_hz: float, seconds: float, graph: Graph) -> Check:
    config = watch.config
    name, kind = f"{watch.name} on {config.topic}", config.message_type
    if watch.count == 0 and watch.rejected:
        found = f"{watch.rejected} messages in {seconds:g} s, none of which can be read: {watch.error}"
        return Check(name, "failure", found, "correct the source in the robot's YAML, or what the sensor publishes")
    if watch.count == 0:
        types = graph.types(config.topic)
        if types and kind not in types:
            fix = "give the source (and message) for that type in the robot's YAML, or another topic"
            return Check(name, "failure", f"it carries {', '.join(types)}, not {kind}", fix)
        fix = f"start the sensor, or correct the topic or its type: `ros2 topic info {config.topic}`"
        return Check(name, "failure", f"no {kind} in {seconds:g} s", fix)
    found = f"{watch.count} messages, {watch.rate_hz():.1f} Hz, at most {1e3 * watch.oldest_s():.0f} ms old"
    if watch.rejected:
        fix = "another publisher on this topic sends something else; find it with `ros2 topic info -v`"
        return Check(name, "failure", f"{found}; {watch.rejected} cannot be read: {watch.error}", fix)
    if watch.not_finite:
        return Check(name, "failure", f"{found}; with NaN or infinity", _not_finite_fix(config))
    if watch.rate_hz() < rate_hz * (1 - _RATE_SLACK):
        fix = f"{rate_hz:g} Hz are needed: raise the sensor's rate, or lower rate_hz and train at a lower rate"
        return Check(name, "failure", found, fix)
    if watch.oldest_s() > config.max_age_s:
        fix = f"max_age_s is {config.max_age_s:g}: find what delays the messages, or raise it"
        return Check(name, "failure", found, fix)
    return Check(name, "ok", found)


def _not_finite_fix(config: ObservationConfig) -> str:
    fix = "the policy is not driven by these; see the sensor"
    if config.scan is None or config.scan.nan == "no_echo":
        return fix
    return f"{fix}. A scanner, or a server without CBOR, that writes NaN for no echo needs `nan: no_echo` under scan"


def _clocks(watches: list[TopicWatch]) -> Check:
    offsets = {watch.config.topic: watch.clock_offset_s() for watch in watches}
    known = {topic: offset for topic, offset in offsets.items() if offset is not None}
    if not known:
        return Check("clocks", "unknown", "no message has a time stamp")
    topic, worst = max(known.items(), key=lambda item: abs(item[1]))
    found = f"this machine's is {worst:+.3f} s from the stamps on {topic}, delays included"
    if abs(worst) <= _CLOCKS_S:
        return Check("clocks", "ok", found)
    fix = "ages are measured without it, but recordings mix the clocks: synchronise both machines (chrony, ntp)"
    return Check("clocks", "warning", found, fix)


def _heartbeat(config: RobotConfig, beats: int, seconds: float, graph: Graph) -> list[Check]:
    """What an operator's program publishes; it need not be there yet."""
    if config.heartbeat is None:
        return []
    topic, kind = config.heartbeat.topic, OPERATOR_TYPES["heartbeat"]
    name, found = f"heartbeat on {topic}", f"{beats} in {seconds:g} s"
    other = _other_type(name, topic, kind, graph, "heartbeat.topic")
    if other is not None:
        return [other]
    if beats:
        return [Check(name, "ok", found)]
    return [Check(name, "warning", found, f"start it: ros2 topic pub -r 5 {topic} {kind}")]


def _emergency_stop(config: RobotConfig, said: list[Any], seconds: float, graph: Graph) -> list[Check]:
    """The button; many say something only when they are pressed or released."""
    if config.emergency_stop is None:
        return []
    topic, kind = config.emergency_stop.topic, OPERATOR_TYPES["emergency_stop"]
    name = f"emergency_stop on {topic}"
    other = _other_type(name, topic, kind, graph, "emergency_stop.topic")
    if other is not None:
        return [other]
    if not said:
        fix = f"press and release it while the doctor listens; `ros2 topic info -v {topic}` says who publishes"
        return [Check(name, "warning", f"no {kind} in {seconds:g} s", fix)]
    if said[-1].data:
        return [Check(name, "warning", "it is pressed", "release it (false), then call the node's ~/enable")]
    return [Check(name, "ok", "it is released")]


def _guard(config: RobotConfig, times: int, seconds: float, graph: Graph) -> list[Check]:
    """The guard of the commands, where their stamps need it."""
    topic = config.action.time_topic
    if topic is None:
        return []
    name, found = f"guard's time on {topic}", f"{times} in {seconds:g} s"
    other = _other_type(name, topic, TIME, graph, "action.time_topic")
    if other is not None:
        return [other]
    if times:
        return [Check(name, "ok", found)]
    fix = f"start it on the robot: mcsd-agent guard --from {config.action.topic} --to TOPIC, or correct time_topic"
    return [Check(name, "failure", found, fix)]


def _other_type(name: str, topic: str, kind: str, graph: Graph, key: str) -> Check | None:
    """The failure that `topic` carries something else than `kind`, which alone can be heard there."""
    types = graph.types(topic)
    if not types or kind in types:
        return None
    fix = f"write the topic of a {kind} under {key} in the robot's YAML, or publish that type on {topic}"
    return Check(name, "failure", f"it carries {', '.join(types)}, not {kind}", fix)


def _commands(config: RobotConfig, graph: Graph) -> Check:
    name, kind = f"commands on {config.action.topic}", config.action.message
    listeners = graph.listeners(config.action.topic)
    if listeners is None:
        return Check(name, "unknown", "the server has no rosapi, which alone knows who subscribes")
    if not listeners:
        return Check(name, "failure", f"nobody subscribes to this {kind}", "start the base, or correct action.topic")
    deaf = [listener for listener in listeners if listener.ros_type not in ("", kind)]
    if deaf:
        words = ", ".join(f"{listener.node} expects {listener.ros_type}" for listener in deaf)
        level: Level = "failure" if len(deaf) == len(listeners) else "warning"
        return Check(name, level, f"{words}, not {kind}", _command_fix(deaf[0].ros_type, kind))
    return Check(name, "ok", f"heard by {', '.join(listener.node for listener in listeners)}")


def _command_fix(expected: str, kind: str) -> str:
    if expected in MESSAGES:
        return f"write `message: {expected}` under action in the robot's YAML, or let the base take {kind}"
    return f"write the topic of a {kind} under action.topic in the robot's YAML, or let the base take that type"


def _server_words(link: Any) -> str:
    """The server's newest complaint, other than about the rosapi that it does not have."""
    text = str(link.node.context.connection.last_error)
    return "" if "rosapi" in text else text
