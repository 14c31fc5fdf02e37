"""Random observations for the check of an export: of many scales, at the corners of their space, constant, repeated."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mcsd_agent.runtime.artifact_spec import ArtifactSpec
from mcsd_agent.spaces import BoxSpec, DiscreteSpec, MultiDiscreteSpec, Spec, TextSpec


def episodes(spec: ArtifactSpec, count: int, seed: int) -> Iterator[tuple[bool, dict[str, np.ndarray]]]:
    """`count` times whether an episode starts and arrays `(1, *shape)` by name.

    Episodes last from one tick to about a hundred, so that both a fresh and a long-lived memory are met. One
    observation in ten is the one before again.
    """
    rng = np.random.default_rng(seed)
    remaining = 0
    arrays: dict[str, np.ndarray] = {}
    for _ in range(count):
        starts = remaining == 0
        if starts:
            remaining = int(np.exp(rng.uniform(0.0, np.log(100.0))))
        remaining -= 1
        if not arrays or rng.random() >= 0.1:
            arrays = {name: sample(s, rng, spec) for name, s in spec.observation.items()}
        yield starts, arrays


def sample(spec: Spec, rng: np.random.Generator, artifact: ArtifactSpec) -> np.ndarray:
    """A random observation `(1, *shape)`: within bounds, and over many scales where there are none."""
    shape = (1, *spec.shape)
    corner = rng.random() < 0.1
    if isinstance(spec, DiscreteSpec):
        return rng.integers(0, spec.n, shape)
    if isinstance(spec, MultiDiscreteSpec):
        counts = np.asarray(spec.nvec)[None]
        return (counts - 1) * rng.integers(0, 2, shape) if corner else rng.integers(0, counts)
    if isinstance(spec, TextSpec):
        if spec.embedding is not None:
            return _vectors(spec, rng)
        # Left-padded ids of any word, unknown ones included; often nothing is said.
        known = len((artifact.vocabulary or {"words": ()})["words"])
        ids = np.zeros(shape, np.int64)
        count = int(rng.integers(0, spec.max_words + 1)) if rng.random() < 0.7 else 0
        if count:
            ids[0, -count:] = rng.integers(1, known + 2, count)
        return ids
    return _box(spec, shape, corner, rng)


def _vectors(spec: TextSpec, rng: np.random.Generator) -> np.ndarray:
    """Vectors of length 1 behind zeros, as many as there are parts; often nothing is said."""
    vectors = np.zeros((1, *spec.shape), np.float32)
    count = int(rng.integers(0, spec.max_words + 1)) if rng.random() < 0.7 else 0
    if count:
        drawn = rng.normal(size=(count, spec.shape[-1]))
        vectors[0, -count:] = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return vectors


def _box(spec: BoxSpec, shape: tuple[int, ...], corner: bool, rng: np.random.Generator) -> np.ndarray:
    low, high = spec.bounds()
    same = rng.random() < 0.1  # one number everywhere
    drawn = tuple([1] * len(shape)) if same else shape
    if spec.dtype == "uint8":
        values = 255 * rng.integers(0, 2, drawn) if corner else rng.integers(0, 256, drawn)
        return np.broadcast_to(values, shape).astype(np.uint8)
    extreme = rng.random() < 0.1
    scale = 10.0 ** (rng.uniform(-6.0, 6.0) if extreme else rng.uniform(-2.0, 1.0))
    free = np.broadcast_to(rng.normal(scale=scale, size=drawn), shape)
    share = np.broadcast_to(rng.integers(0, 2, drawn) if corner else rng.random(drawn), shape)
    bounded = np.isfinite(low) & np.isfinite(high)
    with np.errstate(invalid="ignore"):
        within = np.where(bounded, low, 0) + share * np.where(bounded, high - low, 0)
    one_sided = np.where(np.isfinite(low), low + np.abs(free), np.where(np.isfinite(high), high - np.abs(free), free))
    values = np.where(bounded, np.clip(within, low, high), one_sided)
    return values.astype(np.float32)
