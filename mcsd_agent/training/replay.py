"""Demonstrations as a person looks at them: what a data set holds, and its episodes as video."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from mcsd_agent.errors import UserError
from mcsd_agent.training.demos import load_demonstrations
from mcsd_agent.training.environments import make_env
from mcsd_agent.training.episodes import Episode
from mcsd_agent.training.video import VideoWriter


def describe(path: Path) -> dict[str, Any]:
    """What is in the data set at `path`; `UserError` where there is none."""
    episodes = load_demonstrations(path)
    spec = _env_spec(path)
    lengths = [len(e) for e in episodes]
    known = [e.success for e in episodes if e.success is not None]
    said = Counter(e.instruction for e in episodes if e.instruction)
    return {
        "demonstrations": str(path),
        "env": None if spec is None else spec.id,
        "env_kwargs": {} if spec is None else dict(spec.kwargs),
        "episodes": len(episodes),
        "steps": sum(lengths),
        "length": {"least": min(lengths), "mean": round(float(np.mean(lengths)), 1), "most": max(lengths)},
        "success": sum(known) / len(known) if known else None,
        "disturbed": sum(e.labels is not None and not np.array_equal(e.labels, e.actions) for e in episodes),
        "observation": {k: _entry(v) for k, v in episodes[0].observations.items()},
        "action": _entry(np.concatenate([e.actions for e in episodes])),
        "instructions": len(said),
        "most_said": dict(said.most_common(5)),
    }


def _entry(values: Any) -> str:
    if isinstance(values, list):
        return "text"
    array = np.asarray(values)
    return f"{array.dtype} {array.shape[1:]} from {array.min():g} to {array.max():g}"


def _env_spec(path: Path) -> gymnasium.envs.registration.EnvSpec | None:
    from minari import MinariDataset

    return MinariDataset(path / "data" if (path / "data").is_dir() else path).spec.env_spec


def film(path: Path, video: Path, *, first: int = 0, episodes: int = 3) -> tuple[int, int]:
    """What was done in `episodes` episodes from number `first` on, done again in their environment, to an mp4.

    Returns the number of frames, and of episodes that went otherwise than recorded: an environment that is not
    the same for the same seed, or has changed. `UserError` where the episodes are not there, or cannot be drawn.
    """
    found = load_demonstrations(path)
    chosen = found[first : first + episodes]
    if not chosen:
        raise UserError(f"--first {first} must be below {len(found)}: so many episodes has {str(path)!r}")
    spec = _env_spec(path)
    if spec is None:
        raise UserError(f"{str(path)!r} does not say for which environment it is, so it cannot be done again")
    env = make_env(spec.id, dict(spec.kwargs), render_mode="rgb_array")
    writer = VideoWriter(video, float(env.metadata.get("render_fps") or 10))
    try:
        return _again(env, chosen, writer)
    finally:
        writer.close()
        env.close()


def _again(env: gymnasium.Env, episodes: list[Episode], writer: VideoWriter) -> tuple[int, int]:
    """Frames before each action and after the last; how many episodes went otherwise."""
    strayed = 0
    for episode in episodes:
        if episode.seed < 0:
            raise UserError("the demonstrations have no seeds, so that their episodes cannot be begun again")
        observation, _ = env.reset(seed=episode.seed)
        same = True
        for t, action in enumerate(episode.actions):
            same &= _is(observation, episode, t)
            _draw(env, writer)
            observation, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                break
        _draw(env, writer)
        strayed += not (same and t == len(episode) - 1)
    return writer.frames, strayed


def _draw(env: gymnasium.Env, writer: VideoWriter) -> None:
    frame = env.render()
    if not isinstance(frame, np.ndarray):
        raise UserError(f"{env.spec.id if env.spec else env} draws no pictures, so there is nothing to film")
    writer.add(frame)


def _is(observation: Any, episode: Episode, t: int) -> bool:
    seen = observation if isinstance(observation, dict) else {"observation": observation}
    return all(
        seen[k] == v[t] if isinstance(v, list) else np.allclose(seen[k], v[t], atol=1e-5)
        for k, v in episode.observations.items()
    )
