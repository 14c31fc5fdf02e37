"""Demonstrations by a person at a keyboard or a gamepad.

Continuous actions are driven in real time, at the environment's rate. Where nothing can be done by doing nothing, as
in a grid world, time waits for the next key.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from envs import ExpertFailed
from mcsd_agent.errors import UserError
from mcsd_agent.training.demos import RecordConfig, save_demonstrations, try_episode
from mcsd_agent.training.environments import make_env
from mcsd_agent.training.episodes import Episode
from mcsd_agent.training.hand import Hand
from mcsd_agent.training.key_map import KeyMap, key_map_for
from mcsd_agent.training.recording import Recorded

BY_HAND = ("keyboard", "gamepad")
_POLL_S = 0.02
_RATE_HZ = 10.0  # where the environment states none


class _Ended(Exception):
    """The person wants to go home."""


class _Person:
    """Somebody who sees an environment in a window and says what to do in it: an `Expert`."""

    def __init__(self, env: gymnasium.Env, hand: Hand, keys: KeyMap, rate_hz: float) -> None:
        self.env, self.hand, self.keys, self.period = env, hand, keys, 1.0 / rate_hz
        self.said = ""

    def reset(self) -> None:
        """An episode begins now."""
        self._due = time.monotonic()

    def act(self, observation: Any) -> Any:
        """What the person wants, a period after the last time, or as soon as a key is pressed where time waits.

        Raises `ExpertFailed` for an episode to be discarded, `_Ended` at the end of the recording.
        """
        picture = self.env.render()
        if not isinstance(picture, np.ndarray):
            raise UserError(f"{self.env.spec.id if self.env.spec else self.env} draws no pictures to drive by")
        self.hand.show(picture, (_instruction_in(observation), self.said))
        self._due += self.period
        action = self._next_action()
        self._due = max(self._due, time.monotonic())  # time that was waited, or drawn for long, is not made up for
        return action

    def _next_action(self) -> Any:
        tapped: dict[str, float] = {}
        while True:
            wish = self.hand.read()
            if wish.end:
                raise _Ended
            if wish.discard:
                raise ExpertFailed("discarded")
            tapped |= self.hand.tapped
            left = self._due - time.monotonic()
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
    config = replace(config, noise=False)  # a person is not disturbed
    left_out: Counter[str] = Counter()
    begun = 0
    try:
        mapping = key_map_for(env, keys)
        hand = Hand(config.env, gamepad=config.expert == "gamepad")
        tell(f"{mapping}; Backspace discards an episode, Escape ends")
        person = _Person(env, hand, mapping, float(env.metadata.get("render_fps") or _RATE_HZ))

        def episodes() -> Iterator[Episode]:
            nonlocal begun
            kept = 0
            while limit is None or kept < limit:
                person.said = f"{kept} kept" + "".join(f", {n} {why}" for why, n in left_out.items())
                try:
                    episode = try_episode(env, person, seed + begun, config, left_out)
                except _Ended:
                    return
                begun += 1
                if episode is not None:
                    kept += 1
                    tell(f"episode {kept}: {len(episode)} steps, {episode.instruction!r}")
                    yield episode

        try:
            kept, steps = save_demonstrations(episodes(), path, config.env, config.env_kwargs, config.expert)
        finally:
            hand.close()
    finally:
        env.close()
    return Recorded(begun, kept, steps, dict(left_out.most_common()))
