"""Streaming robot policies with an MCSD backbone: train in simulation, deploy over ROS.

The names below are loaded on first use, so that `import mcsd_agent.runtime` needs no torch.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "Policy": "mcsd_agent.policy",
    "PolicyConfig": "mcsd_agent.policy",
    "SequencePPO": "mcsd_agent.training.sequence_ppo",
    "SequenceSAC": "mcsd_agent.training.sequence_sac",
    "Stream": "mcsd_agent.runtime",
}

__all__ = ["Policy", "PolicyConfig", "SequencePPO", "SequenceSAC", "Stream"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
