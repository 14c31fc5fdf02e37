"""The random generators that training draws from: torch, NumPy and Python."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from mcsd_agent.training import plain_state


def random_state() -> dict[str, Any]:
    """The state of the global generators as plain values and tensors."""
    return {
        "torch": torch.get_rng_state(),
        "numpy": plain_state.encode(np.random.get_state(legacy=False)),  # noqa: NPY002 -- SB3 draws from it
        "python": plain_state.encode(random.getstate()),
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Let the global generators go on where `random_state` was called."""
    torch.set_rng_state(state["torch"])
    np.random.set_state(plain_state.decode(state["numpy"]))  # noqa: NPY002
    random.setstate(plain_state.decode(state["python"]))


@contextmanager
def untouched_random_state() -> Iterator[None]:
    """What is drawn inside does not change what is drawn afterwards."""
    state = random_state()
    try:
        yield
    finally:
        set_random_state(state)
