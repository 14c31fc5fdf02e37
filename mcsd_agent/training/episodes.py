"""Episodes: what was observed and done, run with any actor in many environments at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import gymnasium
import numpy as np
import torch
from torch import Tensor

from envs import ExpertFailed
from mcsd_agent.policy import Policy
from mcsd_agent.runtime.text_encoders import TextEncoder
from mcsd_agent.spaces import SINGLE, Spec, TextSpec


@dataclass(frozen=True)
class Episode:
    """One episode of `T` ticks.

    `observations` holds arrays `(T, *shape)`, or a list of `T` strings for text; `actions` what was
    done; `labels` what the expert would have done (None without an expert).

    `final` is what was observed after the last action, as `observations` of one tick; `achieved` `(T + 1,)` whether
    the instruction had been carried out at each observation, that one included, where the environment says so at
    every step (`info["is_success"]`); `predicted` `(T + 1,)` how likely the actor took that to be.
    """

    seed: int
    observations: dict[str, Any]
    actions: np.ndarray
    labels: np.ndarray | None
    rewards: np.ndarray
    terminated: bool
    success: bool | None
    instruction: str = ""
    #: Why it ended, where the environment says so in `info["reason"]`.
    ended: str = ""
    #: What kind of instruction it was, where the environment says so in `info["instruction_kind"]`.
    kind: str = ""
    final: dict[str, Any] | None = None
    achieved: np.ndarray | None = None
    predicted: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def total_reward(self) -> float:
        """The undiscounted return."""
        return float(self.rewards.sum())


class Expert(Protocol):
    """Chooses actions from observations alone."""

    def reset(self) -> None:
        """Forget the last episode."""
        ...

    def act(self, observation: Any) -> np.ndarray:
        """The action for this tick."""
        ...


@runtime_checkable
class PlanningExpert(Expert, Protocol):
    """An expert with a plan, which it has to change where something else was done."""

    def see(self, action: Any) -> None:
        """What was done at this tick."""
        ...


class Actor(Protocol):
    """Acts in a batch of environments; owns whatever memory it needs."""

    def __call__(self, observations: Sequence[Any], episode_starts: np.ndarray, *masks: np.ndarray) -> np.ndarray:
        """Observations of the live environments and whether each begins an episode, to actions.

        Where environments have action masks they follow, `(n, …)`, false where an action is forbidden.
        """
        ...


class PolicyActor:
    """A policy in `batch` environments at once, with its most probable action or, `sampled`, with one that is drawn."""

    def __init__(self, policy: Policy, batch: int, sampled: bool = False) -> None:
        self.policy, self.sampled = policy, sampled
        self.state = policy.initial_state(batch)
        self.collate = Collate(policy.observation_specs, policy.vocabulary)
        #: How likely each instruction was carried out at the observations of the last call, `(batch,)`.
        self.success: np.ndarray | None = None

    @torch.no_grad()
    def __call__(self, observations: Sequence[Any], episode_starts: np.ndarray, *masks: np.ndarray) -> np.ndarray:
        """One tick; see `Actor`."""
        device = self.state.device
        seen = {k: v.to(device) for k, v in self.collate(observations).items()}
        features, self.state = self.policy.step(seen, self.state, torch.from_numpy(episode_starts).to(device))
        if self.policy.success_net is not None:
            self.success = self.policy.success(features).cpu().numpy()
        parameters = self.policy.action_net(features)
        for mask in masks:
            parameters = self.policy.head.masked(parameters, torch.from_numpy(mask).to(device))
        choose = self.policy.head.sample if self.sampled else self.policy.head.mode
        return choose(parameters).cpu().numpy()


def action_masks(env: gymnasium.Env) -> np.ndarray | None:
    """What an environment's `action_masks()` says now, flat; None where it has no such method."""
    if not env.has_wrapper_attr("action_masks"):
        return None
    return np.ravel(env.get_wrapper_attr("action_masks")()).astype(bool)


class Collate:
    """Lists of observations to tensors by name; text to word ids, each text encoded once."""

    def __init__(self, specs: dict[str, Spec], vocabulary: TextEncoder | None) -> None:
        self.specs, self.vocabulary = specs, vocabulary
        self._ids: dict[str, np.ndarray] = {}

    def __call__(self, observations: Sequence[Any]) -> dict[str, Tensor]:
        """`n` observations to arrays `(n, *shape)`."""
        if list(self.specs) == [SINGLE] and not isinstance(observations[0], dict):
            return {SINGLE: torch.from_numpy(np.stack(observations))}
        return {k: torch.from_numpy(self.stack(k, [o[k] for o in observations])) for k in self.specs}

    def stack(self, name: str, values: Iterable[Any]) -> np.ndarray:
        """`n` values of one entry to `(n, *shape)`; text to ids."""
        if isinstance(self.specs[name], TextSpec):
            return np.stack([v if isinstance(v, np.ndarray) else self.encode(v) for v in values])
        return np.stack([np.asarray(v) for v in values])

    def encode(self, text: str) -> np.ndarray:
        """Word ids, from a table."""
        if text not in self._ids:
            assert self.vocabulary is not None
            self._ids[text] = self.vocabulary.encode(text)
        return self._ids[text]


class _Slot:
    """One environment and the episode under way in it."""

    def __init__(self, env: gymnasium.Env, expert: Expert | None, expert_share: float) -> None:
        self.env, self.expert, self.expert_share = env, expert, expert_share
        self.planner = expert if isinstance(expert, PlanningExpert) else None
        self.is_over = True
        #: Whether the episode is over and its last observation still to be judged.
        self.looks_back = False

    def begin(self, seed: int) -> None:
        self.seed, self.is_over, self.looks_back = seed, False, False
        self.observation, info = self.env.reset(seed=seed)
        self.instruction, self.kind = info.get("instruction", ""), info.get("instruction_kind", "")
        self.told, self.info, self.terminated = [info.get("is_success")], info, False
        self.predicted: list[float] = []
        self.observations: list[Any] = []
        self.actions: list[Any] = []
        self.labels: list[Any] = []
        self.rewards: list[float] = []
        self.expert_fails, self.drawn = False, np.random.default_rng([seed, 2])
        if self.expert is not None:
            try:
                self.expert.reset()
            except ExpertFailed:
                self.expert_fails = True

    def advance(self, action: Any, success: float | None) -> Episode | None:
        """One step; the episode when it is over. `success` is what the actor said of the observation.

        An actor that says so is asked once more when the episode has ended. An expert that knows no further ends it
        too; where that is so from the beginning there is no episode.
        """
        if success is not None:
            self.predicted.append(success)
        if self.looks_back or not self._labelled():
            self.is_over = True
            return self._episode() if self.actions else None
        if self.expert_share and self.drawn.random() < self.expert_share:
            action = self.labels[-1]
        if self.planner is not None:
            self.planner.see(action)
        self.observations.append(self.observation)
        self.actions.append(action)
        self.observation, reward, self.terminated, truncated, self.info = self.env.step(action)
        self.rewards.append(float(reward))
        self.told.append(self.info.get("is_success"))
        if not (self.terminated or truncated):
            return None
        self.looks_back, self.is_over = success is not None, success is None
        return self._episode() if self.is_over else None

    def _labelled(self) -> bool:
        """Whether the expert said what it would do now, and there may be none."""
        if self.expert is None:
            return True
        try:
            label = None if self.expert_fails else self.expert.act(self.observation)
        except ExpertFailed:
            label = None
        if label is None:
            return False
        self.labels.append(label)
        return True

    def _episode(self) -> Episode:
        info = self.info
        return Episode(
            self.seed,
            stack_observations(self.observations),
            np.stack(self.actions),
            np.stack(self.labels) if self.labels else None,
            np.asarray(self.rewards, np.float32),
            bool(self.terminated),
            bool(info["is_success"]) if "is_success" in info else None,
            self.instruction,
            str(info.get("reason", "")),
            self.kind,
            stack_observations([self.observation]),
            achieved(self.told),
            np.asarray(self.predicted, np.float32) if self.predicted else None,
        )


def achieved(told: Sequence[bool | None]) -> np.ndarray | None:
    """`Episode.achieved` from what reset and each step said of success, None being nothing."""
    return None if all(success is None for success in told) else np.array([bool(success) for success in told])


def stack_observations(observations: Sequence[Any]) -> dict[str, Any]:
    """Observations over time to arrays by name, integers in the smallest type that holds them; text stays a list."""
    if not isinstance(observations[0], dict):
        return {SINGLE: _compact(np.stack(observations))}
    return {
        k: [o[k] for o in observations]
        if isinstance(observations[0][k], str)
        else _compact(np.stack([o[k] for o in observations]))
        for k in observations[0]
    }


def _compact(array: np.ndarray) -> np.ndarray:
    if array.dtype != np.int64 or not array.size:
        return array
    return array.astype(np.result_type(np.min_scalar_type(array.min()), np.min_scalar_type(array.max())))


def run_episodes(
    make_env: Callable[[], gymnasium.Env],
    make_actor: Callable[[int], Actor],
    seeds: Sequence[int],
    *,
    parallel: int = 64,
    make_expert: Callable[[gymnasium.Env], Expert] | None = None,
    expert_share: float = 0.0,
    on_episode: Callable[[Episode], None] = lambda episode: None,
) -> list[Episode]:
    """One episode per seed, up to `parallel` at a time; with an expert, its labels beside the actor's actions.

    Results are in the order of `seeds` and depend on the seeds alone, not on `parallel`, as long as
    the actor treats the rows of a batch alike. The expert drives at a drawn `expert_share` of the ticks. Where it knows
    no further an episode ends, and one of which it knows nothing is left out.
    """
    first = make_env()
    # A real robot is there once.
    width = 1 if first.metadata.get("real_time") else min(parallel, len(seeds))
    environments = [first, *(make_env() for _ in range(width - 1))]
    slots = [_Slot(env, make_expert(env) if make_expert else None, expert_share) for env in environments]
    waiting = list(enumerate(seeds))[::-1]
    running = {}
    for i, slot in enumerate(slots):
        running[i], seed = waiting.pop()
        slot.begin(int(seed))
    actor = make_actor(width)
    starts = np.ones(width, bool)
    done: dict[int, Episode] = {}
    while running:
        masks = [m for m in (action_masks(slot.env) for slot in slots) if m is not None]
        actions = actor([slot.observation for slot in slots], starts, *([np.stack(masks)] if masks else []))
        starts = np.zeros(width, bool)
        success = actor.success if isinstance(actor, PolicyActor) else None
        for i in list(running):
            episode = slots[i].advance(actions[i], None if success is None else float(success[i]))
            if not slots[i].is_over:
                continue
            index = running.pop(i)
            if episode is not None:
                done[index] = episode
                on_episode(episode)
            if waiting:
                running[i], seed = waiting.pop()
                slots[i].begin(int(seed))
                starts[i] = True
    for slot in slots:
        slot.env.close()
    return [done[i] for i in range(len(seeds)) if i in done]
