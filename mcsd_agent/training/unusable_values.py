"""Observations and rewards that nothing can be learnt from, refused before they reach an update."""

from __future__ import annotations

from typing import Any

import numpy as np

from mcsd_agent.errors import UserError
from mcsd_agent.spaces import SINGLE


def refuse_nan(observation: Any, rewards: np.ndarray, step: int, rollout_step: int | None = None) -> None:
    """`UserError` naming the environment and its step where a value of a vectorised step is not finite.

    `observation` is `(n_envs, *shape)` or a dict of such; `step` counts each environment's steps from 1.
    """
    entries = observation if isinstance(observation, dict) else {SINGLE: observation}
    for name, array in {**entries, "reward": rewards}.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            index = int(np.argwhere(~np.isfinite(array))[0][0])
            where = "" if rollout_step is None else f" (rollout step {rollout_step})"
            raise UserError(
                f"environment {index} gave a non-finite {name} at step {step}{where}; "
                "training stopped before the update"
            )
