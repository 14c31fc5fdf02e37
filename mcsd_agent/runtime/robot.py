"""What the controller asks of a robot: the newest observation, a way to send an action, and a way to stop."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from mcsd_agent.errors import UserError, nearest
from mcsd_agent.runtime.artifact_spec import ArtifactSpec
from mcsd_agent.runtime.previous_action import NAME as PREVIOUS_ACTION


@dataclass(frozen=True)
class Reading:
    """The newest value of every sensor, and when it was received.

    `stamps` are seconds of the controller's clock (`time.monotonic` unless told otherwise), taken
    where the value arrived. A text entry needs no stamp: words stay said. `ready` is when the last of
    them could first be read, which is later where a picture has to be decoded; NaN: not known.
    """

    values: Mapping[str, Any]
    stamps: Mapping[str, float]
    connected: bool = True
    ready: float = math.nan


class Robot(Protocol):
    """A machine, or a simulation of one. The controller calls it from one thread, once per tick."""

    def observe(self) -> Reading:
        """The newest reading, at once: a robot hands over what it has and never waits for a sensor."""
        ...

    def send(self, action: np.ndarray) -> np.ndarray:
        """Carry out `action` (physical units) and return what was really sent."""
        ...

    def stop(self, reason: str) -> None:
        """Stand still. Called on every tick that may not drive, so that a lost message does not matter."""
        ...


def check_robot_matches(spec: ArtifactSpec, names: Iterable[str]) -> None:
    """`UserError` when a robot that offers the observations `names` lacks one that the policy needs.

    A robot may offer more than a policy uses. The action before is the controller's to give.
    """
    offered = sorted({*names, PREVIOUS_ACTION})
    for name in spec.observation:
        if name not in offered:
            raise UserError(
                f"the artifact is for other observation names: it needs {', '.join(sorted(spec.observation))}; "
                f"the robot offers no {name!r}{nearest(name, offered)}"
            )
