"""Which commands may still be carried out: what the guard beside a robot's driver knows without ROS.

See `guard_node` for the node.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from mcsd_agent.errors import UserError, nearest
from ros_bridge.action_config import ACKERMANN, TRAJECTORY, TWIST, TWIST_STAMPED
from ros_bridge.config_checks import require, require_topic

#: The part of a command that drivers without stamps take, and its type.
PLAIN: Mapping[str, tuple[str, str] | None] = {
    TWIST_STAMPED: ("twist", TWIST),
    ACKERMANN: ("drive", "ackermann_msgs/msg/AckermannDrive"),
    TRAJECTORY: None,
}


@dataclass(frozen=True)
class GuardConfig:
    """What is guarded.

    source: topic of the stamped commands.
    target: topic of the driver.
    message: their type, one that has a header.
    plain: whether the driver takes the command without its header.
    max_age_s: by the robot's clock, the oldest command that is passed on.
    max_ahead_s: how far its stamp may lie in the future.
    timeout_s: without a command that is passed on for so long the driver is told to stop, and again and again.
    """

    source: str
    target: str
    message: str = TWIST_STAMPED
    plain: bool = False
    max_age_s: float = 0.2
    max_ahead_s: float = 0.05
    timeout_s: float = 0.3

    def __post_init__(self) -> None:
        require_topic(self.source)
        require_topic(self.target)
        require(self.source != self.target, "--to", self.target, "another topic than --from")
        if self.message not in PLAIN:
            raise UserError(
                f"--message: {self.message!r} carries no stamp that can be checked{nearest(self.message, PLAIN)}"
            )
        if self.plain and PLAIN[self.message] is None:
            raise UserError(f"--plain: drivers take a {self.message} as it is; leave --plain out")
        for option, value in (("--max-age", self.max_age_s), ("--timeout", self.timeout_s)):
            require(0 < value < math.inf, option, value, "a finite number of seconds above 0")
        require(0 <= self.max_ahead_s < math.inf, "--max-ahead", self.max_ahead_s, "a finite number, 0 or more")

    @property
    def part(self) -> str | None:
        """The field of a command that the driver is sent; None: all of it."""
        plain = PLAIN[self.message]
        return plain[0] if self.plain and plain is not None else None

    @property
    def target_type(self) -> str:
        """Type of what the driver is sent."""
        plain = PLAIN[self.message]
        return plain[1] if self.plain and plain is not None else self.message


class Gate:
    """Judges one command after the other by its stamp, and counts. Times in nanoseconds of one clock."""

    def __init__(self, max_age_s: float, max_ahead_s: float) -> None:
        self._max_age_ns, self._max_ahead_ns = round(1e9 * max_age_s), round(1e9 * max_ahead_s)
        self._newest_ns = 0
        #: Commands that were passed on, and that were refused, by cause.
        self.counts: Counter[str] = Counter(dict.fromkeys(("passed", "unstamped", "old", "ahead", "out_of_order"), 0))

    def refusal(self, stamp_ns: int, now_ns: int) -> str | None:
        """Why a command must not be passed on: "unstamped", "old", "ahead" or "out_of_order"; None: it may."""
        if self._newest_ns > now_ns + self._max_ahead_ns:
            self._newest_ns = 0  # the clock was set back: what came before says nothing about order now
        age_ns = now_ns - stamp_ns
        if stamp_ns <= 0:
            cause = "unstamped"
        elif age_ns > self._max_age_ns:
            cause = "old"
        elif -age_ns > self._max_ahead_ns:
            cause = "ahead"
        elif stamp_ns < self._newest_ns:
            cause = "out_of_order"
        else:
            self._newest_ns = stamp_ns
            self.counts["passed"] += 1
            return None
        self.counts[cause] += 1
        return cause
