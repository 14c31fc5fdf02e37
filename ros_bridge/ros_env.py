"""A robot on ROS as a Gymnasium environment: `gymnasium.make("mcsd/Ros-v0", robot="configs/robots/diffdrive.yaml")`.

Time is real. An action is sent when `step` is called; `step` then waits for the next tick of the robot's rate, reads
the sensors and returns. What would stop a policy node ends the episode here: the robot is told to stop, and `truncated`
comes with the reason in `info["reason"]`, one of those of `mcsd_agent.runtime.controller`.

This and `ros_env_spaces` are the modules of `ros_bridge` that import gymnasium, and no other imports them: a robot's
own machine has none.
"""

from __future__ import annotations

import math
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import gymnasium
import numpy as np

from mcsd_agent.errors import UserError
from mcsd_agent.runtime.action_filters import ActionFilters
from mcsd_agent.runtime.pace import towards_fresh
from mcsd_agent.runtime.robot import Reading
from mcsd_agent.spaces import spec_from_space
from ros_bridge.robot_config import RobotConfig, load_robot
from ros_bridge.ros_env_checks import ReadingChecks
from ros_bridge.ros_env_hooks import Hook, RosStep, checked_topic, load_hook
from ros_bridge.ros_env_spaces import CHARACTERS, MAX_TEXT, action_space, observation_space
from ros_bridge.ros_process import choose_backend
from ros_bridge.sensors import SensorError

_LARGEST_SEED = 2**31


class RosEnv(gymnasium.Env[dict[str, Any], np.ndarray]):
    """See the module. It connects at the first `reset`; until then only the YAML is read.

    Observation (Dict): the observations of the robot's YAML by name, and its instruction as text.
    Action: float32, the robot's command within the bounds of its YAML, in physical units.

    Args:
        robot: robot YAML, the same as `mcsd-agent run` takes, or a loaded `RobotConfig`.
        url: rosbridge server (default: MCSD_ROSBRIDGE_URL, else ws://localhost:9090).
        native: use rclpy, in a ROS 2 environment, and no server.
        reset_service: a std_srvs/Trigger that is called at every reset; without one the robot is just stopped.
        reset_node: before that, this node's parameters `seed` and, with an instruction, `instruction` are set.
        reward: of a `RosStep`, a number; a function or "module:function". None: 0.
        termination: likewise, whether the task is over. None: never.
        topics: further topics for the hooks: `{name: [topic, type]}`, such as `{"state": ["/sim/state",
            "std_msgs/msg/String"]}`.
        instructions: what is said to the robot, one of them at each reset, drawn by the seed. Without any the
            environment listens to the instruction topic, and `reset` waits until something has been said.
        instruction_words: every word that an instruction may hold, for whoever builds a vocabulary.
        rate_hz: of the steps; None is the robot's own rate, and no higher one is possible.
        max_steps: truncate after so many; the reason is `time_limit`.
        wait_s: how long `reset` waits for a service, for sensors, for an instruction.
        on_late: when `step` is called a period or more after the observation was returned the robot has been told
            to stop meanwhile. "truncate" ends the episode with the reason `late`; "go_on" sends the action all the
            same, for learners that pause to learn. The first step of an episode is never late: the robot stands still.

    `info` has `reason`, `action_sent`, `oldest_s` (age of the oldest observation) and `late_s` (from the observation
    to the sending of the action). A step that is truncated for another reason than `time_limit` repeats the observation
    before, and no hook is asked about it. Raises `UserError` for what a user can put right.
    """

    def __init__(
        self,
        robot: str | Path | RobotConfig,
        *,
        url: str | None = None,
        native: bool = False,
        reset_service: str | None = None,
        reset_node: str | None = None,
        reward: str | Hook | None = None,
        termination: str | Hook | None = None,
        topics: Mapping[str, Sequence[str]] | None = None,
        instructions: Sequence[str] = (),
        instruction_words: Sequence[str] = (),
        rate_hz: float | None = None,
        max_steps: int = 1000,
        wait_s: float = 10.0,
        on_late: Literal["truncate", "go_on"] = "truncate",
        render_mode: str | None = None,
    ) -> None:
        self.robot_config = config = robot if isinstance(robot, RobotConfig) else load_robot(robot)
        rate_hz = config.rate_hz if rate_hz is None else rate_hz
        _require(0 < rate_hz <= config.rate_hz, "rate_hz", rate_hz, f"at most the robot's {config.rate_hz:g}, above 0")
        _require(max_steps >= 1, "max_steps", max_steps, "at least 1")
        _require(0 < wait_s < math.inf, "wait_s", wait_s, "a finite number of seconds above 0")
        _require(on_late in ("truncate", "go_on"), "on_late", on_late, "'truncate' or 'go_on'")
        _require(render_mode is None, "render_mode", render_mode, "None: a robot draws no pictures")
        _require(reset_node is None or reset_service is not None, "reset_node", reset_node, "given with reset_service")
        _require(not instructions or config.instruction is not None, "instructions", list(instructions),
                 "left out: the robot's YAML has no instruction topic")  # fmt: skip
        self.metadata = {"render_modes": [], "render_fps": rate_hz, "real_time": True}
        self.render_mode = None
        self.instruction_words = tuple(instruction_words) or tuple(instructions)
        self._url, self._native = url, native
        self._reset_service, self._reset_node = reset_service, reset_node
        self._reward, self._termination = load_hook(reward, "reward"), load_hook(termination, "termination")
        self._topics = {name: checked_topic(name, given) for name, given in (topics or {}).items()}
        self._instructions = tuple(instructions)
        self._period_s, self._max_steps, self._wait_s = 1.0 / rate_hz, max_steps, wait_s
        self._goes_on = on_late == "go_on"

        self._text = config.instruction.name if config.instruction else None
        action = config.action
        self.observation_space = observation_space(config)
        self.action_space = action_space(action)
        self._filters = ActionFilters(
            spec_from_space(self.action_space),
            self._period_s,
            slew_per_s=action.policy_slew_per_s,
            low_pass_s=action.low_pass_s,
            at_rest=action.policy_at_rest,
        )
        self._rest = self._last_sent = np.asarray(self._filters.at_rest(), np.float32)
        self._checks = ReadingChecks(config)
        self._link: Any = None
        self._end_link: weakref.finalize[Any, Any] | None = None
        self._messages: dict[str, Any] = {}
        self._lock = threading.Lock()  # who commands the robot: `step`, or the timer that finds it overdue
        self._driving = False  # whether the newest command was an action
        self._running = False
        self._deadline = 0.0  # when the last observation was due

    # ------------------------------------------------------------------------------------ gymnasium

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Stop the robot, reset it, and wait for fresh observations. `options` may hold `instruction`, a text.

        Raises `UserError` when a service, a sensor or an instruction does not come within `wait_s`, or the emergency
        stop is not released.
        """
        super().reset(seed=seed)
        text = self._next_instruction(options or {})
        link = self._connected()
        self._running = False
        self._halt("reset")
        try:
            self._await_release(link)
            self._reset_robot(link, text)
            observation = self._first_observation(link, text)
            link.release()
        except BaseException:
            self._halt("reset")
            raise
        self._observation, self._steps, self._last_sent = observation, 0, self._rest
        self._checks.begin(still=False)
        self._deadline = time.monotonic()
        self._running = True
        return dict(observation), self._info("ok", link, 0.0)

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Send `action`, clipped and slowed as the robot's YAML says, and return what is seen one period later."""
        if not self._running:
            raise gymnasium.error.ResetNeeded("the episode is over: call reset() before step()")
        try:
            return self._step(action, self._link)
        except BaseException:  # Ctrl-C and failing hooks included: nobody will send a next action in time
            self._running = False
            self._halt("error")
            raise

    def close(self) -> None:
        """Stop the robot and end the connection and its thread; `reset` connects afresh. May be called twice."""
        self._running = False
        if self._end_link is not None:
            self._end_link()
        self._link = self._end_link = None

    # ------------------------------------------------------------------------------------- one step

    def _step(self, action: np.ndarray, link: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        asked = np.asarray(action, np.float32)
        if asked.shape != self.action_space.shape:
            raise ValueError(f"action {action!r} must have shape {self.action_space.shape}")
        late_s = time.monotonic() - self._deadline
        refused = None if np.isfinite(asked).all() else "nan_action"
        if self._checks.is_stopped(link):
            refused = "emergency_stop"
        if late_s >= self._period_s:  # it was stopped meanwhile, or has not moved since the reset
            self._last_sent = self._rest
            self._deadline = time.monotonic()
            refused = refused or (None if self._goes_on or self._steps == 0 else "late")
        if refused is not None:
            self._last_sent = self._rest
            return self._truncated(refused, link, late_s)
        try:
            self._send(self._filters.apply(asked, self._last_sent, self._observation), link)
        except SensorError:  # with max_step: it is not known where the robot is
            return self._truncated(f"stale:{self.robot_config.action.hold_from}", link, late_s)
        self._steps += 1
        time.sleep(max(0.0, self._deadline - time.monotonic()))
        reading = link.robot.observe()
        reason = self._checks.fault(reading, link)
        if reason is not None:
            return self._truncated(reason, link, late_s)
        self._deadline += towards_fresh(self._checks.oldest_s, self._period_s)

        info = self._info("ok", link, late_s)
        seen = self._seen(reading)
        step = RosStep(self._observation, self._last_sent, seen, self._messages, self._steps, info)
        reward = 0.0 if self._reward is None else float(self._reward(step))
        terminated = self._termination is not None and bool(self._termination(step))
        truncated = not terminated and self._steps >= self._max_steps
        self._observation = seen
        if terminated or truncated:
            info["reason"] = "ok" if terminated else "time_limit"
            self._finish(info["reason"])
        return dict(seen), reward, terminated, truncated, info

    def _send(self, action: np.ndarray, link: Any) -> None:
        with self._lock:
            self._last_sent = link.robot.send(action)
            self._driving = True
            self._deadline += self._period_s

    def _truncated(
        self, reason: str, link: Any, late_s: float
    ) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        self._finish(reason)
        return dict(self._observation), 0.0, False, True, self._info(reason, link, late_s)

    def _finish(self, reason: str) -> None:
        self._running = False
        self._halt(reason)

    def _seen(self, reading: Reading) -> dict[str, Any]:
        """Copies, within the observation space."""
        seen: dict[str, Any] = {}
        for name, space in self.observation_space.spaces.items():  # type: ignore[attr-defined]
            if name == self._text:
                words = "".join(c if c in CHARACTERS else " " for c in str(reading.values.get(name) or ""))
                seen[name] = words[:MAX_TEXT]
            else:
                seen[name] = np.array(reading.values[name], space.dtype)
        return seen

    def _info(self, reason: str, link: Any, late_s: float) -> dict[str, Any]:
        return {
            "reason": reason,
            "action_sent": np.array(self._last_sent),
            "oldest_s": self._checks.oldest_s,
            "late_s": late_s,
            "instruction": link.instruction,
        }

    def _halt(self, reason: str) -> None:
        with self._lock:
            self._driving = False
            if self._link is not None:
                self._link.robot.stop(reason)

    def _stop_when_overdue(self) -> None:
        """On the link's thread, now and then: nobody has asked for the next step in time."""
        with self._lock:
            if self._driving and time.monotonic() >= self._deadline + self._period_s and self._link is not None:
                self._driving = False
                self._link.robot.stop("late")

    # ---------------------------------------------------------------------------------------- reset

    def _next_instruction(self, options: dict[str, Any]) -> str | None:
        unknown = sorted(set(options) - {"instruction"})
        if unknown:
            raise ValueError(f"reset option {unknown[0]!r} is not 'instruction'")
        text = options.get("instruction")
        if text is None and self._instructions:
            text = self._instructions[int(self.np_random.integers(len(self._instructions)))]
        if text is not None and self._text is None:
            raise ValueError("reset option 'instruction': the robot's YAML has no instruction topic")
        return text

    def _connected(self) -> Any:
        if self._link is None:
            self._link = _connect(self.robot_config, self._url, self._native)
            # Also when the program ends without `close`; the link must not keep this environment alive.
            self._end_link = weakref.finalize(self, self._link.close)
            self._messages = self._link.follow(self._topics)
            overdue = weakref.WeakMethod(self._stop_when_overdue)
            self._link.node.create_timer(self._period_s / 4, lambda: (call := overdue()) and call())
            if not self._instructions:
                self._link.listen()
        return self._link

    def _await_release(self, link: Any) -> None:
        """No reset service may move a robot while its emergency stop is pressed."""
        end = time.monotonic() + self._wait_s
        self._checks.begin(still=True)
        while self._checks.is_stopped(link):
            if time.monotonic() >= end:
                raise UserError(self._checks.explain("emergency_stop", link, self._wait_s))
            self._halt("reset")
            time.sleep(self._period_s)

    def _reset_robot(self, link: Any, text: str | None) -> None:
        if self._reset_service is not None:
            if self._reset_node is not None:
                values: dict[str, int | str] = {"seed": int(self.np_random.integers(_LARGEST_SEED))}
                if text is not None:
                    values["instruction"] = text
                link.set_parameters(self._reset_node, values, self._wait_s)
            link.trigger(self._reset_service, self._wait_s)
        if text is not None:
            link.say(text)

    def _first_observation(self, link: Any, text: str | None) -> dict[str, Any]:
        """The first for which every sensor has spoken after the reset, and for a period more: what was under way then
        has arrived. The robot is told to stop all the while."""
        after = time.monotonic() + (self._period_s if self._reset_service is not None else 0.0)
        end = after + self._wait_s
        self._checks.begin(still=True)
        said_at = None
        while True:
            reading = link.robot.observe()
            reason = self._checks.fault(reading, link)
            if reason is None:
                waiting = [n for n in self.robot_config.observations if reading.stamps[n] <= after]
                reason = f"missing:{waiting[0]}" if waiting else None
            if reason is None and self._text is not None and not reading.values.get(self._text):
                reason = f"missing:{self._text}"
            if reason is None:
                return self._seen(reading)
            now = time.monotonic()
            if now >= end:
                raise UserError(self._checks.explain(reason, link, self._wait_s))
            if said_at is None or now - said_at >= self._period_s:
                said_at = now
                self._halt("reset")
            time.sleep(min(0.002, self._period_s / 10))


def _connect(config: RobotConfig, url: str | None, native: bool) -> Any:
    """A link on the backend that was asked for; imported here, because the import chooses it."""
    choose_backend(native)
    from ros_bridge.robot_link import RobotLink

    return RobotLink(config, "gymnasium", url=url)


def _require(holds: bool, key: str, value: object, constraint: str) -> None:
    if not holds:
        raise UserError(f"{key}={value!r} must be {constraint}")
