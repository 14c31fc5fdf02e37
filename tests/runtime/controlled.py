"""The tiny policy's controller on a scripted robot, in simulated time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from runtime.onnx_models import tiny_artifact
from runtime.scripted_robot import ScriptedRobot

from mcsd_agent.runtime import Controller, ControllerConfig, Stream, Telemetry, VirtualClock
from mcsd_agent.runtime.action_filters import ActionHook
from mcsd_agent.runtime.package import parse_package

PACKAGE = parse_package(tiny_artifact(), "tiny")
PERIOD = PACKAGE.spec.period_s


def make(
    telemetry: Telemetry | None = None, action_hook: ActionHook | None = None, **config: Any
) -> tuple[Controller, ScriptedRobot, VirtualClock]:
    clock = VirtualClock(1000.0)
    robot = ScriptedRobot(clock)
    stream = Stream(PACKAGE, "numpy")
    controller = Controller(
        stream,
        robot,
        ControllerConfig(**config),
        telemetry,
        clock=clock,
        sleep=clock.sleep,
        action_hook=action_hook,
    )
    return controller, robot, clock


def steps(controller: Controller) -> int:
    """How many times the policy has stepped since its memory was empty."""
    return round(float(controller.state[0, 0]))


def reasons(controller: Controller, clock: VirtualClock, count: int, each: Callable[[], None] = lambda: None) -> list:
    """The reasons of the next `count` ticks; `each` is called before every one of them."""
    result = []
    for _ in range(count):
        clock.sleep(PERIOD)
        each()
        result.append(controller.tick().reason)
    return result
