"""How a policy may drive, and what stops it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from mcsd_agent.errors import UserError, nearest
from mcsd_agent.runtime.artifact_spec import ArtifactSpec
from mcsd_agent.runtime.previous_action import NAME as PREVIOUS_ACTION
from mcsd_agent.spaces import TextSpec


@dataclass(frozen=True)
class ControllerConfig:
    """How a policy may drive. None switches a watchdog or filter off, unless it says otherwise.

    `rate_hz`             ticks per second; None takes the rate the policy was trained at, and no other is accepted
    `late_tolerance_s`    how long after its deadline a tick may begin; None is half a period
    `follow_sensors`      move the ticks of `run`, by at most 2 % of a period each, to just after the sensors spoke.
                          For sensors of the policy's rate: without it an observation may be a period old for ever
    `max_age_s`           oldest observation that may be used; None is two periods
    `max_age_by_name`     the same for single observations; texts have no age unless they are named here
    `max_frozen_by_name`  how long an observation may repeat itself to the last bit, new time stamps or not. Only for
                          sensors that never do, not even while the machine stands still
    `max_clock_jump_s`    how far the monotonic and the wall clock may move apart between two ticks
    `heartbeat_s`         longest silence of whoever must call `heartbeat()`
    `max_excess`          how far the action asked for may lie outside its bounds, in widths of the bounds
    `max_state_growth`    how many times the largest norm of its first ticks the memory's norm may reach
    `state_norm_ticks`    how many ticks after a reset are "first"
    `slew_per_s`          largest change of each action entry per second (one value for all, or one each)
    `low_pass_s`          time constant of a first-order low-pass on the action
    `at_rest`             the action of a machine that stands still (one value for all, or one each), where slew and
                          low-pass begin after a stop, outside the bounds too; None is zero, brought within the bounds
    `on_resume`           after `hold()` and `enable()`: "keep" the memory, or "reset" it
    `on_unknown_instruction`  "hold" while an instruction is not understood (see `understanding`), or "go_on"
    `max_unknown_share`   which share of an instruction's words the policy need not know
    `max_instruction_distance`  how far an instruction may be from those of training, for policies with a sentence
                          encoder; None is what the artifact says
    `done_threshold`      how likely success must be for the instruction to count as carried out, where it is predicted
    `done_s`              and for how long without a break, see `runtime.done`
    `on_telemetry_loss`   when a log that was asked for can no longer be written: "stop" the robot, or "go_on"
    """

    rate_hz: float | None = None
    late_tolerance_s: float | None = None
    follow_sensors: bool = False
    max_age_s: float | None = None
    max_age_by_name: dict[str, float] = field(default_factory=dict)
    max_frozen_by_name: dict[str, float] = field(default_factory=dict)
    max_clock_jump_s: float | None = 0.5
    heartbeat_s: float | None = None
    max_excess: float | None = None
    max_state_growth: float | None = None
    state_norm_ticks: int = 1000
    slew_per_s: tuple[float, ...] | None = None
    low_pass_s: float | None = None
    at_rest: tuple[float, ...] | None = None
    on_resume: Literal["keep", "reset"] = "keep"
    on_unknown_instruction: Literal["hold", "go_on"] = "hold"
    max_unknown_share: float = 0.0
    max_instruction_distance: float | None = None
    done_threshold: float = 0.8
    done_s: float = 0.5
    on_telemetry_loss: Literal["stop", "go_on"] = "stop"

    def __post_init__(self) -> None:
        numbers = ("rate_hz", "late_tolerance_s", "max_age_s", "max_clock_jump_s", "heartbeat_s", "max_excess",
                   "max_state_growth", "low_pass_s", "max_instruction_distance", "done_s")  # fmt: skip
        values = {name: getattr(self, name) for name in numbers}
        for name in ("max_age_by_name", "max_frozen_by_name"):
            values |= {f"{name}.{key}": value for key, value in getattr(self, name).items()}
        values |= {f"slew_per_s[{i}]": v for i, v in enumerate(self.slew_per_s or ())}
        for name, value in values.items():
            if value is not None and not 0 < value < math.inf:
                raise UserError(f"{name}={value} must be a finite number above 0")
        for name in ("slew_per_s", "at_rest"):
            if getattr(self, name) == ():
                raise UserError(f"{name}=[] must have a value per action entry, one for all, or be left out")
        if not all(map(math.isfinite, self.at_rest or ())):
            raise UserError(f"at_rest={list(self.at_rest or ())} must hold finite numbers")
        if not 0.0 <= self.max_unknown_share <= 1.0:
            raise UserError(f"max_unknown_share={self.max_unknown_share} must be from 0 to 1")
        if not 0.0 < self.done_threshold < 1.0:
            raise UserError(f"done_threshold={self.done_threshold} must be above 0 and below 1")
        if self.state_norm_ticks < 1:
            raise UserError(f"state_norm_ticks={self.state_norm_ticks} must be at least 1")
        for name, choices in (
            ("on_resume", ("keep", "reset")),
            ("on_unknown_instruction", ("hold", "go_on")),
            ("on_telemetry_loss", ("stop", "go_on")),
        ):
            if getattr(self, name) not in choices:
                raise UserError(f"{name}={getattr(self, name)!r} must be {' or '.join(map(repr, choices))}")

    def check_fits(self, spec: ArtifactSpec) -> None:
        """`UserError` for another rate than the artifact's, and for names that it does not have."""
        if self.rate_hz is not None and not math.isclose(self.rate_hz, spec.rate_hz, rel_tol=1e-6):
            raise UserError(
                f"rate_hz={self.rate_hz:g} differs from the {spec.rate_hz:g} Hz of the artifact: a policy's memory "
                "counts ticks; leave rate_hz out, or export for this rate"
            )
        for name in self.max_age_by_name:
            if name not in spec.observation:
                raise UserError(f"max_age_by_name: no observation {name!r}{nearest(name, spec.observation)}")
        sensors = [n for n, s in spec.observation.items() if not isinstance(s, TextSpec) and n != PREVIOUS_ACTION]
        for name in self.max_frozen_by_name:
            if name not in sensors:
                raise UserError(f"max_frozen_by_name: no sensor gives {name!r}{nearest(name, sensors)}")
