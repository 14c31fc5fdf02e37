"""Demonstrations: an expert drives, we record; files in Minari's format (https://minari.farama.org).

In a file, `actions` is what was done; where the recorder disturbed the expert, `infos/expert_action` is
what it meant to do, and that is what imitation learns. `infos/is_success` says at which observations the instruction
had been carried out, where the environment tells. Reading and writing never unpickle.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from envs import ExpertFailed
from envs.exploration import DemonstrationNoise
from mcsd_agent.errors import UserError
from mcsd_agent.spaces import SINGLE
from mcsd_agent.training.environments import make_env, make_expert
from mcsd_agent.training.episodes import Episode, Expert, achieved, stack_observations

_LABEL, _SUCCESS = "expert_action", "is_success"
#: Seeds per piece of work: what is in memory while a data set is recorded.
_BLOCK = 50
#: Seeds beyond these are for evaluation.
MAX_EPISODES = 1_000_000


@dataclass(frozen=True)
class RecordConfig:
    """Which environment, which expert, how many episodes.

    `noise` disturbs the expert where actions are a Box, so that it shows recovery. An episode that would be left out
    for want of success is tried again from its beginning, with other noise, up to `tries` times in all.
    """

    env: str = "mcsd/Nav-v0"
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    expert: str = "scripted"
    episodes: int = 1000
    noise: bool = True
    only_successes: bool = True
    tries: int = 1
    processes: int = 2

    def __post_init__(self) -> None:
        if not 1 <= self.episodes <= MAX_EPISODES:
            raise UserError(f"episodes={self.episodes} must be from 1 to {MAX_EPISODES}")
        for name in ("tries", "processes"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)} must be at least 1")


def record_episode(env: gymnasium.Env, expert: Expert, seed: int, noise: bool, attempt: int = 0) -> Episode:
    """One episode of the expert; noise changes what is done, never the label. Each `attempt` has its own."""
    observation, info = env.reset(seed=seed)
    told = [info.get("is_success")]
    expert.reset()
    disturbance = None
    if noise and isinstance(env.action_space, spaces.Box):
        # Its own generator per episode, so that an episode depends on its seed alone.
        disturbance = DemonstrationNoise(
            env.action_space,
            np.random.default_rng([seed, 1, attempt] if attempt else [seed, 1]),
            getattr(env.unwrapped, "demonstration_noise", None),  # where an expert bears less than others do
        )
        disturbance.reset()
    observations, actions, labels, rewards = [], [], [], []
    instruction, kind, done = "", "", False
    while not done:
        label = expert.act(observation)
        action = label if disturbance is None else disturbance.perturb(label)
        observations.append(observation)
        actions.append(action)
        labels.append(label)
        instruction, kind = info.get("instruction", instruction), info.get("instruction_kind", kind)
        observation, reward, terminated, truncated, info = env.step(action)
        rewards.append(float(reward))
        told.append(info.get("is_success"))
        done = terminated or truncated
    return Episode(
        seed,
        stack_observations(observations),
        np.stack(actions),
        np.stack(labels),
        np.asarray(rewards, np.float32),
        bool(terminated),
        bool(info["is_success"]) if "is_success" in info else None,
        instruction,
        kind=kind,
        final=stack_observations([observation]),
        achieved=achieved(told),
    )


def try_episode(
    env: gymnasium.Env, expert: Expert, seed: int, config: RecordConfig, left_out: Counter[str]
) -> Episode | None:
    """One episode that may be learnt from, or None, with the reason counted in `left_out`."""
    is_disturbed = config.noise and isinstance(env.action_space, spaces.Box)
    for attempt in range(config.tries if is_disturbed else 1):
        try:
            episode = record_episode(env, expert, seed, config.noise, attempt)
        except ExpertFailed as error:
            left_out[str(error)] += 1
            return None
        if not (config.only_successes and episode.success is False):
            return episode
    left_out["no success"] += 1
    return None


@dataclass(frozen=True)
class Block:
    """Episodes of some seeds that may be learnt from, and for which reasons how many others were left out."""

    seeds: int
    episodes: list[Episode]
    left_out: Counter[str]


def _record_block(work: tuple[RecordConfig, list[int]]) -> Block:
    config, seeds = work
    env = make_env(config.env, config.env_kwargs)
    expert = make_expert(config.env, config.expert, env)
    episodes: list[Episode] = []
    left_out: Counter[str] = Counter()
    for seed in seeds:
        episode = try_episode(env, expert, seed, config, left_out)
        if episode is not None:
            episodes.append(episode)
    env.close()
    return Block(len(seeds), episodes, left_out)


def record_blocks(config: RecordConfig, seed: int = 0) -> Iterator[Block]:
    """`config.episodes` episodes of seeds `seed, seed + 1, …` as they are recorded, a few at a time and in order.

    The result does not depend on the number of processes. Failed episodes are left out when `only_successes`.
    """
    seeds = list(range(seed, seed + config.episodes))
    blocks = [(config, seeds[i : i + _BLOCK]) for i in range(0, len(seeds), _BLOCK)]
    yield from _map(_record_block, blocks, config.processes)


def record(
    config: RecordConfig, seed: int = 0, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> list[Episode]:
    """All episodes of `record_blocks`. `on_progress(done, total)` is called as blocks arrive."""
    episodes: list[Episode] = []
    total = 0
    for block in record_blocks(config, seed):
        total += block.seeds
        episodes += block.episodes
        on_progress(total, config.episodes)
    if not episodes:
        raise UserError(f"the expert {config.expert!r} succeeded in none of {total} episodes of {config.env}")
    return episodes


def _map(function: Callable[[Any], Any], work: Sequence[Any], processes: int) -> Iterator[Any]:
    if processes == 1 or len(work) == 1:
        yield from map(function, work)
        return
    # More than there are processors would only take memory.
    with multiprocessing.get_context("spawn").Pool(min(processes, len(work), os.cpu_count() or 1)) as pool:
        yield from pool.imap(function, work)


def save_demonstrations(
    episodes: Iterable[Episode], path: Path, env_id: str, env_kwargs: dict[str, Any], expert: str = "scripted"
) -> tuple[int, int]:
    """Write a Minari data set to the folder `path`, which must not exist yet, an episode at a time.

    Returns how many episodes and steps it has; the folder is there when everything is in it.
    """
    import minari
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    if path.exists():
        raise UserError(f"demonstrations {str(path)!r} exist already; choose another folder or delete it")
    facts: list[dict[str, Any]] = []
    steps = 0

    def buffers() -> Iterator[Any]:
        nonlocal steps
        for i, episode in enumerate(episodes):
            known = {} if episode.success is None else {"success": bool(episode.success)}
            facts.append({**known, "instruction": episode.instruction})
            steps += len(episode)
            yield _buffer(i, episode, EpisodeBuffer)

    path = path.absolute()  # Minari loses its way from relative ones
    unfinished = path.with_name(path.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(parents=True)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"demonstrations {str(path)!r}: {reason}; give a folder that can be made") from None
    env = make_env(env_id, env_kwargs)
    try:
        storage = MinariStorage.new(
            unfinished / "data", env.observation_space, env.action_space, env.spec, jpeg_encoding=False
        )
        storage.update_metadata(
            {
                "dataset_id": f"{path.name}-v0",
                "algorithm_name": f"{expert} expert" if expert == "scripted" else expert,
                "minari_version": minari.__version__,
            }
        )
        storage.update_episodes(buffers())
        if not facts:
            raise UserError(f"the expert {expert!r} succeeded in none of the episodes of {env_id}")
        storage.update_episode_metadata(facts, range(len(facts)))
        unfinished.rename(path)
    finally:
        env.close()
        shutil.rmtree(unfinished, ignore_errors=True)
    return len(facts), steps


def _buffer(index: int, episode: Episode, cls: Any) -> Any:
    # Minari keeps the observation after the last action too; where it is not known the one before is repeated.
    final = episode.final or {k: v[-1:] for k, v in episode.observations.items()}
    observations = {
        k: [*v, *final[k]] if isinstance(v, list) else np.concatenate([v, final[k]])
        for k, v in episode.observations.items()
    }
    infos = {}
    if episode.labels is not None:
        infos[_LABEL] = np.concatenate([episode.labels, episode.labels[-1:]])
    if episode.final is not None and episode.achieved is not None:
        infos[_SUCCESS] = episode.achieved
    ends = np.zeros(len(episode), bool)
    ends[-1] = True
    return cls(
        id=index,
        seed=episode.seed,
        observations=observations[SINGLE] if set(observations) == {SINGLE} else observations,
        actions=episode.actions,
        rewards=episode.rewards,
        terminations=ends & episode.terminated,
        truncations=ends & (not episode.terminated),
        infos=infos or None,
    )


def load_demonstrations(path: Path, limit: int | None = None) -> list[Episode]:
    """Episodes of a Minari data set made by `save_demonstrations` or by others; `UserError` if it is none."""
    from minari import MinariDataset

    folder = path / "data" if (path / "data").is_dir() else path
    try:
        dataset = MinariDataset(folder)
        wanted = dataset.episode_indices if limit is None else dataset.episode_indices[:limit]
        facts = list(dataset.storage.get_episode_metadata(wanted))
        texts: dict[str, str] = {}
        return [_episode(data, fact, texts) for data, fact in zip(dataset.iterate_episodes(wanted), facts, strict=True)]
    except (OSError, ValueError, KeyError, AssertionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"demonstrations {str(path)!r} cannot be read ({reason}); record them again") from None


def _episode(data: Any, facts: dict[str, Any], texts: dict[str, str]) -> Episode:
    """`texts` holds what was said so far, so that what is said at every tick is in memory once."""
    steps = len(data.rewards)
    observations = data.observations if isinstance(data.observations, dict) else {"observation": data.observations}
    infos = data.infos or {}
    labels = infos[_LABEL][:steps] if _LABEL in infos else data.actions
    observations = {
        k: [texts.setdefault(text, text) for text in v] if isinstance(v, list) else v for k, v in observations.items()
    }
    # Without it the last observation may be the one before again.
    is_told = np.shape(infos.get(_SUCCESS, ())) == (steps + 1,)
    return Episode(
        int(facts.get("seed", -1) if facts.get("seed") is not None else -1),
        {k: v[:steps] for k, v in observations.items()},
        np.asarray(data.actions),
        np.asarray(labels),
        np.asarray(data.rewards, np.float32),
        bool(data.terminations[-1]),
        bool(facts["success"]) if "success" in facts else None,
        str(facts.get("instruction", "")),
        final={k: v[steps:] for k, v in observations.items()} if is_told else None,
        achieved=np.asarray(infos[_SUCCESS], bool) if is_told else None,
    )
