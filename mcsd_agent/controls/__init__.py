"""The peers MCSD is compared with, one file each, behind the interface of `mcsd_agent.backbone.Backbone`."""

from __future__ import annotations

from mcsd_agent.controls.memoryless import MemorylessControl
from mcsd_agent.controls.min_gru import MinGRUControl
from mcsd_agent.controls.recurrent import RecurrentControl
from mcsd_agent.controls.state_space import StateSpaceControl
from mcsd_agent.controls.transformer import TransformerControl

__all__ = ["MemorylessControl", "MinGRUControl", "RecurrentControl", "StateSpaceControl", "TransformerControl"]
