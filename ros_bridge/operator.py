"""Whoever tells the robot what to do: instructions, tasks for the simulator, and what came of them.

with Operator("ws://127.0.0.1:9090") as operator:
    operator.reset_memory()
    operator.instruct("go to the red ball")
    print(operator.policy_status())
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mcsd_agent.errors import UserError
from ros_bridge.address import DEFAULT_URL, token_from_environment
from ros_bridge.connection import Connection
from ros_bridge.names import full_topic_name_error

TASK_TOPIC, STATE_TOPIC, RESET_SERVICE = "/sim/task", "/sim/state", "/sim/reset"
#: How long a publish may take to come back as a state before it is sent again: longer than DDS discovery.
RETRY_S = 1.0


@dataclass(frozen=True)
class PolicyStatus:
    """The newest `~/status` of the policy node; `received_at` on the monotonic clock."""

    reason: str
    values: Mapping[str, str]
    received_at: float


@dataclass(frozen=True)
class SimState:
    """The newest `/sim/state`; every other entry is in `data`. `received_at` on the monotonic clock."""

    task: str
    instruction: str
    heard: int
    stage: int
    parts: int
    success: bool
    failed: bool
    error: str
    received_at: float
    data: Mapping[str, Any] = field(repr=False, default_factory=dict)


@dataclass(frozen=True)
class GoalEnd:
    """How an instruction that was given as a goal ended: succeeded, aborted, canceled or refused."""

    state: str
    success: bool
    message: str


class Operator:
    """A client of the rosbridge server at `url`, for the policy node `policy`: `policy`, or `/robot1/policy`.

    Raises `UserError` when the server cannot be reached, or when nobody answers in time.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        policy: str = "policy",
        instruction_topic: str = "/instruction",
        connect_timeout_s: float = 5.0,
    ) -> None:
        policy = self._policy = _node_path(policy)
        self._instruction_topic = instruction_topic
        self._changed = threading.Condition()
        self._status: PolicyStatus | None = None
        self._state: SimState | None = None
        self._tasks = 0
        self._connection = Connection(url, token=token_from_environment())
        try:
            self._connection.wait_connected(connect_timeout_s)
        except BaseException:
            self._connection.close()
            raise
        self._connection.advertise(instruction_topic, "std_msgs/msg/String")
        self._connection.advertise(TASK_TOPIC, "std_msgs/msg/String")
        self._connection.subscribe(STATE_TOPIC, "std_msgs/msg/String", self._on_state, depth=1)
        self._goal: dict[str, Any] = {}
        self._connection.advertise(f"/{policy}/goal", "std_msgs/msg/String")
        self._connection.subscribe(f"/{policy}/goal_status", "std_msgs/msg/String", self._on_goal, depth=10)
        self._connection.subscribe(
            f"/{policy}/status", "diagnostic_msgs/msg/DiagnosticArray", self._on_status, depth=10
        )

    def __enter__(self) -> Operator:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave. The robot goes on with what it was told."""
        self._connection.close()

    def policy_status(self) -> PolicyStatus | None:
        """The policy node's newest status, or None."""
        return self._status

    def sim_state(self) -> SimState | None:
        """The simulator's newest state, or None."""
        return self._state

    def wait(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Whether `condition()` came true in time; it is asked whenever a status or state arrives."""
        with self._changed:
            return self._changed.wait_for(condition, timeout_s)

    def wait_ready(self, timeout_s: float = 15.0, *, sim: bool = True) -> None:
        """Until the policy node (and the simulator) report; `UserError` names who does not."""
        if sim and not self.wait(lambda: self._state is not None, timeout_s):
            raise UserError(f"no simulated robot on {STATE_TOPIC} after {timeout_s:g} s; start it with mcsd-agent sim")
        self._require_policy(timeout_s)

    def instruct(self, text: str, timeout_s: float = 5.0) -> PolicyStatus:
        """Say `text` to the robot and return the status in which the policy node confirms it.

        Where there is a simulator it has heard the text too, and its state judges this text from here
        on. Said again when no confirmation comes: a first message may precede DDS discovery.
        """
        said = " ".join(text.split())
        if not said:
            raise UserError(f"the instruction {text!r} is empty; say for example 'go to the red ball'")
        count = self._require_policy(timeout_s).values.get("instructions")
        heard = None if self._state is None else self._state.heard

        def confirmed() -> bool:
            status, state = self._status, self._state
            assert status is not None
            by_policy = status.values.get("instructions") != count and status.values.get("instruction") == said
            # A simulator that is there must judge the same words.
            by_sim = state is None or (state.heard != heard and state.instruction == said)
            return by_policy and by_sim

        if not self._publish_until(self._instruction_topic, said, confirmed, timeout_s):
            raise UserError(f"policy node {self._policy!r} (or the simulator) did not hear {said!r} in {timeout_s:g} s")
        assert self._status is not None
        return self._status

    def execute(
        self, text: str, timeout_s: float = 60.0, feedback: Callable[[float, float], None] = lambda p, c: None
    ) -> GoalEnd:
        """Give `text` as a goal and wait for its end, at most `timeout_s` from its beginning.

        `feedback(progress, confidence)` is called meanwhile, see `goal_topics`. Raises `UserError` when nobody takes
        the goal up, or its end is not heard. Ctrl-C cancels the goal.
        """
        self._require_policy(5.0)
        self._tasks += 1
        name = f"{time.time_ns()}-{self._tasks}"
        wanted = json.dumps({"id": name, "instruction": text, "timeout_s": timeout_s})
        if not self._publish_until(f"/{self._policy}/goal", wanted, lambda: self._goal.get("id") == name, 5.0):
            raise UserError(
                f"policy node {self._policy!r} did not take up the goal {text!r}; does it take instructions?"
            )
        end, status = time.monotonic() + timeout_s + RETRY_S, self._goal
        try:
            while status["id"] == name and status["state"] == "active" and time.monotonic() < end:
                feedback(status["progress"], status["confidence"])
                self.wait(lambda seen=status: self._goal is not seen, RETRY_S)  # type: ignore[misc]
                status = self._goal
        except KeyboardInterrupt:
            self._call("cancel", "std_srvs/srv/Trigger", {}, 5.0)
            raise
        if status["id"] != name or status["state"] == "active":
            raise UserError(f"the end of the goal {text!r} was not heard; is the policy node {self._policy!r} running?")
        return GoalEnd(status["state"], status["success"], status["message"])

    def set_task(
        self,
        seed: int | None = None,
        *,
        n_objects: int | None = None,
        instruction: str | None = None,
        timeout_s: float = 10.0,
    ) -> SimState:
        """A new arena; the objects named by `instruction` will be in it. Nothing is said to the robot yet."""
        self._tasks += 1
        name = f"{time.time_ns()}-{self._tasks}"
        task = {"task": name, "seed": seed, "n_objects": n_objects, "instruction": instruction}
        text = json.dumps({k: v for k, v in task.items() if v is not None})
        if self._state is not None and self._state.error:
            self._state = None  # an old complaint is no answer to this task

        def answered() -> bool:
            return self._state is not None and (self._state.task == name or bool(self._state.error))

        if not self._publish_until(TASK_TOPIC, text, answered, timeout_s):
            raise UserError(f"no simulated robot answers on {STATE_TOPIC} ({timeout_s:g} s); start mcsd-agent sim")
        state = self._state
        assert state is not None
        if state.task != name:
            raise UserError(f"the simulated robot refused the task: {state.error}")
        return state

    def reset_memory(self, timeout_s: float = 5.0) -> None:
        """Empty the policy's memory; it stands still until the next instruction."""
        self._call("reset", "std_srvs/srv/Trigger", {}, timeout_s)

    def hold(self, is_held: bool, timeout_s: float = 5.0) -> None:
        """Let the robot stand still, or go on."""
        self._call("hold", "std_srvs/srv/SetBool", {"data": is_held}, timeout_s)

    def enable(self, timeout_s: float = 5.0) -> None:
        """Go on after a hold, or after an emergency stop whose button has been released."""
        self._call("enable", "std_srvs/srv/Trigger", {}, timeout_s)

    def _call(self, service: str, ros_type: str, args: dict[str, Any], timeout_s: float) -> None:
        name = f"/{self._policy}/{service}"
        outcome: list[tuple[bool, Any]] = []

        def done(ok: bool, values: Any) -> None:
            with self._changed:
                outcome.append((ok, values))
                self._changed.notify_all()

        sent = self._connection.call(name, ros_type, args, done)
        if not sent or not self.wait(lambda: bool(outcome), timeout_s):
            raise UserError(f"service {name} did not answer within {timeout_s:g} s; is the policy node running?")
        ok, values = outcome[0]
        if not ok or not values.get("success", False):
            raise UserError(f"service {name} failed: {values}")

    def _require_policy(self, timeout_s: float) -> PolicyStatus:
        if not self.wait(lambda: self._status is not None, timeout_s):
            raise UserError(
                f"no policy node reports on /{self._policy}/status after {timeout_s:g} s; start it with mcsd-agent run"
            )
        assert self._status is not None
        return self._status

    def _publish_until(self, topic: str, text: str, answered: Callable[[], bool], timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            sent = self._connection.publish(topic, {"data": text})
            if self.wait(answered, min(left, RETRY_S if sent else 0.1)):
                return True

    def _on_status(self, message: dict[str, Any]) -> None:
        entry = message["status"][0]
        values = {str(pair["key"]): str(pair["value"]) for pair in entry["values"]}
        with self._changed:
            self._status = PolicyStatus(str(entry["message"]), values, time.monotonic())
            self._changed.notify_all()

    def _on_goal(self, message: dict[str, Any]) -> None:
        status = json.loads(message["data"])
        with self._changed:
            self._goal = status
            self._changed.notify_all()

    def _on_state(self, message: dict[str, Any]) -> None:
        data = json.loads(message["data"])
        state = SimState(
            task=data["task"],
            instruction=data["instruction"],
            heard=data["heard"],
            stage=data["stage"],
            parts=data["parts"],
            success=data["success"],
            failed=data["failed"],
            error=data["error"],
            received_at=time.monotonic(),
            data=data,
        )
        with self._changed:
            self._state = state
            self._changed.notify_all()


def _node_path(policy: str) -> str:
    """Namespace and name without the slashes around them."""
    path = policy.strip("/")
    error = full_topic_name_error(f"/{path}")
    if error is not None:
        raise UserError(f"node {policy!r} has no valid name: {error[0]}; give for example 'policy' or '/robot1/policy'")
    return path
