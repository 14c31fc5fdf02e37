"""What a stream is measured with: the default artifact where none is given, and observations without end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mcsd_agent.runtime.artifact_spec import ArtifactSpec
from mcsd_agent.spaces import BoxSpec, DiscreteSpec, MultiDiscreteSpec, Spec

#: Ticks that are drawn at once.
_BLOCK = 1000


def write_default_artifact(path: Path, rate_hz: float, seed: int) -> Path:
    """An untrained policy of the default size (D = 128, 2 layers): 32 numbers in, 4 out. Needs torch."""
    import torch

    from mcsd_agent.artifact import export_policy
    from mcsd_agent.policy import Policy

    torch.manual_seed(seed)
    policy = Policy({"observation": BoxSpec((32,))}, BoxSpec((4,), low=(-1.0,), high=(1.0,)))
    with torch.no_grad():  # untrained policies do next to nothing: actions must show what the memory holds
        policy.action_net[-1].get_parameter("weight").mul_(50)
    export_policy(policy, path, rate_hz=rate_hz)
    return path


def observations(spec: ArtifactSpec, seed: int) -> Iterator[dict[str, Any]]:
    """Varied observations for ever, the same for the same seed; memory does not grow.

    Real numbers are noise of changing strength around changing means, so that quiet and wild stretches follow
    each other.
    """
    rng = np.random.default_rng(seed)
    words = spec.vocabulary["words"] if spec.vocabulary else []
    while True:
        block = {name: _block(s, words, rng) for name, s in spec.observation.items()}
        for i in range(_BLOCK):
            yield {name: values[i] for name, values in block.items()}


def _block(spec: Spec, words: list[str], rng: np.random.Generator) -> Any:
    if isinstance(spec, BoxSpec):
        shape = (_BLOCK, *spec.shape)
        if spec.dtype == "uint8":
            return rng.integers(0, 256, shape, np.uint8)
        mean, strength = rng.normal(), np.exp(rng.uniform(-4.0, 1.0))
        values = (mean + strength * rng.standard_normal(shape, np.float32)).astype(np.float32)
        return np.clip(values, *spec.bounds()).astype(np.float32)
    if isinstance(spec, DiscreteSpec):
        return rng.integers(0, spec.n, _BLOCK)
    if isinstance(spec, MultiDiscreteSpec):
        return rng.integers(0, np.asarray(spec.nvec), (_BLOCK, len(spec.nvec)))
    # Something new is said once in a block.
    said = " ".join(rng.choice(words, rng.integers(1, spec.max_words + 1))) if words else ""
    return [said] * _BLOCK
