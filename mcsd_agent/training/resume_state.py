"""What stable-baselines3's algorithms carry from one update to the next, as tensors and plain values.

`torch.load(weights_only=True)` reads all of it; nothing needs unpickling.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import nn

from mcsd_agent.errors import UserError


def collection_state(model: BaseAlgorithm) -> dict[str, Any]:
    """Counters, statistics of recent episodes, the last observation and episode starts."""
    return {
        "timesteps": int(model.num_timesteps),
        "episodes": int(model._episode_num),
        "episode_infos": [{k: float(v) for k, v in e.items()} for e in model.ep_info_buffer or ()],
        "episode_successes": [float(v) for v in model.ep_success_buffer or ()],
        "observation": _tensors(model._last_obs),
        "episode_starts": _tensors(model._last_episode_starts),
    }


def set_collection_state(model: BaseAlgorithm, state: dict[str, Any]) -> None:
    """The opposite of `collection_state`."""
    model.num_timesteps = state["timesteps"]
    model._episode_num = state["episodes"]
    window = model._stats_window_size
    model.ep_info_buffer = deque(state["episode_infos"], maxlen=window)
    model.ep_success_buffer = deque(state["episode_successes"], maxlen=window)
    model._last_obs = _arrays(state["observation"])
    model._last_episode_starts = _arrays(state["episode_starts"])


def load_weights(
    policy: nn.Module, weights: dict[str, Any], optimizer: torch.optim.Optimizer, moments: dict[str, Any]
) -> None:
    """Weights and the optimiser's state, or `UserError` when they are of another policy."""
    check_weights(policy, weights)
    policy.load_state_dict(weights)
    try:
        optimizer.load_state_dict(moments)
    except (KeyError, ValueError) as error:
        raise _other_policy(f"the optimiser's state does not fit: {error}") from None


def check_weights(policy: nn.Module, weights: dict[str, Any]) -> None:
    """`UserError`, naming the first difference, when they are the weights of another policy."""
    own = policy.state_dict()
    for name in (*own, *weights):
        if name not in weights:
            raise _other_policy(f"it has no {name!r}")
        if name not in own:
            raise _other_policy(f"nothing in the policy is called {name!r}")
        if weights[name].shape != own[name].shape:
            raise _other_policy(f"{name!r} is {tuple(weights[name].shape)}, the policy's {tuple(own[name].shape)}")


def _other_policy(difference: str) -> UserError:
    return UserError(
        f"the checkpoint is of another policy than the config: {difference}; "
        "use the backbone, sizes and observations that it was trained with"
    )


def _tensors(arrays: Any) -> Any:
    if isinstance(arrays, dict):
        return {k: _tensors(v) for k, v in arrays.items()}
    return None if arrays is None else torch.from_numpy(np.array(arrays))


def _arrays(tensors: Any) -> Any:
    if isinstance(tensors, dict):
        return {k: _arrays(v) for k, v in tensors.items()}
    return None if tensors is None else tensors.numpy()
