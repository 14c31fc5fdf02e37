"""Demonstrations by a person at a keyboard or a gamepad.

Continuous actions are driven in real time, at the environment's rate. Where nothing can be done by doing nothing, as
in a grid world, time waits for the next key.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from mcsd_agent.errors import UserError
from mcsd_agent.training.demos import RecordConfig, save_demonstrations
from mcsd_agent.training.environments import make_env
from mcsd_agent.training.episodes import Episode, stack_observations
from mcsd_agent.training.hand import Hand, Wish
from mcsd_agent.training.key_map import KeyMap, key_map_for
from mcsd_agent.training.record_command import Recorded

BY_HAND = ("keyboard", "gamepad")
_POLL_S = 0.02
_RATE_HZ = 10.0  # where the environment states none


class _Recorder:
    """One person in one environment."""

    def __init__(self, env: gymnasium.Env, hand: Hand, keys: KeyMap, rate_hz: float) -> None:
        self.env, self.hand, self.keys, self.period = env, hand, keys, 1.0 / rate_hz
        self.said = ""

    def episode(self, seed: int) -> Episode | Wish:
        """One episode, or what the person wanted instead."""
        observation, info = self.env.reset(seed=seed)
        instruction, kind = "", info.get("instruction_kind", "")
        observations, actions, rewards = [], [], []
        due, done = time.monotonic(), False
        while not done:
            instruction = str(info.get("instruction", "")) or _instruction_in(observation) or instruction
            picture = self.env.render()
            if not isinstance(picture, np.ndarray):
                raise UserError(f"{self.env.spec.id if self.env.spec else self.env} draws no pictures to drive by")
            self.hand.show(picture, (instruction, self.said))
            due += self.period
            action = self._next_action(due)
            if isinstance(action, Wish):
                return action
            due = max(due, time.monotonic())  # time waited for a key, or drawing took long: nothing is made up for
            observations.append(observation)
            actions.append(action)
            observation, reward, terminated, truncated, info = self.env.step(action)
            rewards.append(float(reward))
            done = terminated or truncated
        success = bool(info["is_success"]) if "is_success" in info else None
        return Episode(
            seed,
            stack_observations(observations),
            np.stack(actions),
            np.stack(actions),
            np.asarray(rewards, np.float32),
            bool(terminated),
            success,
            instruction,
            kind=kind,
        )

    def _next_action(self, due: float) -> Any:
        """At `due`, or as soon as something is pressed where time waits."""
        tapped: dict[str, float] = {}
        while True:
            wish = self.hand.read()
            if wish.end or wish.discard:
                return wish
            tapped |= self.hand.tapped
            left = due - time.monotonic()
            if self.keys.idle is None:
                action = self.keys.action(tapped)
                if action is not None:
                    return action
                left = _POLL_S
            elif left <= 0.0:
                return self.keys.action({**tapped, **self.hand.held})
            time.sleep(min(left, _POLL_S))


def _instruction_in(observation: Any) -> str:
    texts = [v for v in observation.values() if isinstance(v, str)] if isinstance(observation, dict) else []
    return texts[0] if texts else ""


def record_by_hand(
    path: Path,
    config: RecordConfig,
    seed: int,
    *,
    keys: Path | None = None,
    limit: int | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Recorded:
    """Record until Escape, or `limit` episodes, into the folder `path`, which must not exist yet.

    Backspace discards an episode; failed ones are left out when `only_successes`. `config.expert` is `keyboard` or
    `gamepad`. `UserError` where there is no window, or no episode was kept.
    """
    if path.exists():
        raise UserError(f"demonstrations {str(path)!r} exist already; choose another folder or delete it")
    env = make_env(config.env, config.env_kwargs, render_mode="rgb_array")
    left_out: Counter[str] = Counter()
    begun = 0
    try:
        mapping = key_map_for(env, keys)
        hand = Hand(config.env, gamepad=config.expert == "gamepad")
        tell(f"{mapping}; Backspace discards an episode, Escape ends")
        recorder = _Recorder(env, hand, mapping, float(env.metadata.get("render_fps") or _RATE_HZ))

        def episodes() -> Iterator[Episode]:
            nonlocal begun
            kept = 0
            while limit is None or kept < limit:
                recorder.said = f"{kept} kept" + "".join(f", {n} {why}" for why, n in left_out.items())
                found = recorder.episode(seed + begun)
                if isinstance(found, Wish) and found.end:
                    return
                begun += 1
                if isinstance(found, Wish):
                    left_out["discarded"] += 1
                elif config.only_successes and found.success is False:
                    left_out["no success"] += 1
                else:
                    kept += 1
                    tell(f"episode {kept}: {len(found)} steps, {found.instruction!r}")
                    yield found

        try:
            kept, steps = save_demonstrations(episodes(), path, config.env, config.env_kwargs, config.expert)
        finally:
            hand.close()
    finally:
        env.close()
    return Recorded(begun, kept, steps, dict(left_out.most_common()))
