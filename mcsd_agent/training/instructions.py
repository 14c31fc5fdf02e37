"""Instructions in gymnasium: Text entries become word ids, which vectorised environments can batch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from mcsd_agent.errors import UserError
from mcsd_agent.language import Vocabulary
from mcsd_agent.spaces import Spec, TextSpec, spec_from_space, specs_from_space


class WordIds(spaces.MultiDiscrete):
    """The space of encoded instructions; remembers the vocabulary that encodes them."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__([vocabulary.size] * vocabulary.max_words)
        self.vocabulary = vocabulary


class EncodeInstruction(gymnasium.ObservationWrapper):
    """Replaces each Text entry of a Dict observation by its word ids, int64 `(max_words,)`."""

    def __init__(self, env: gymnasium.Env, vocabulary: Vocabulary) -> None:
        super().__init__(env)
        if not isinstance(env.observation_space, spaces.Dict):
            raise UserError(f"observation space {env.observation_space} must be a Dict with a Text entry")
        entries = env.observation_space.spaces
        self.vocabulary = vocabulary
        self._texts = [k for k, s in entries.items() if isinstance(s, spaces.Text)]
        self._ids: dict[str, np.ndarray] = {}
        self.observation_space = spaces.Dict(
            {k: WordIds(vocabulary) if k in self._texts else s for k, s in entries.items()}
        )

    def observation(self, observation: dict[str, Any]) -> dict[str, Any]:
        """The same dict with ids for text."""
        encoded = dict(observation)
        for name in self._texts:
            text = observation[name]
            if text not in self._ids:
                self._ids[text] = self.vocabulary.encode(text)
            encoded[name] = self._ids[text]
        return encoded


def has_text(space: gymnasium.Space) -> bool:
    """Whether a Dict space holds a Text entry."""
    return isinstance(space, spaces.Dict) and any(isinstance(s, spaces.Text) for s in space.spaces.values())


def vocabulary_for(env: gymnasium.Env, max_words: int = 24, resets: int = 256, said: Iterable[str] = ()) -> Vocabulary:
    """The words an environment can say: its `instruction_words`, else those of `said`, else those heard in `resets`
    episodes, which only a simulated environment is asked for."""
    known = getattr(env.unwrapped, "instruction_words", None)
    return Vocabulary.from_texts(known or instructions_of(env, said, resets), max_words)


def instructions_of(env: gymnasium.Env, said: Iterable[str] = (), resets: int = 256) -> list[str]:
    """`said`, else what is heard in `resets` episodes, which only a simulated environment is asked for."""
    known = list(said)
    if known:
        return known
    if env.metadata.get("real_time"):
        raise UserError("which words may the robot hear? Give the environment's argument instruction_words=[...]")
    assert isinstance(env.observation_space, spaces.Dict)
    names = [k for k, s in env.observation_space.spaces.items() if isinstance(s, spaces.Text)]
    return [env.reset(seed=seed)[0][k] for seed in range(resets) for k in names]


def policy_specs(space: gymnasium.Space) -> tuple[dict[str, Spec], Vocabulary | None]:
    """Observation specs of a space whose text is already encoded, and the vocabulary that encodes it."""
    if not isinstance(space, spaces.Dict):
        return specs_from_space(space), None
    specs: dict[str, Spec] = {}
    vocabulary = None
    for name, entry in space.spaces.items():
        if isinstance(entry, WordIds):
            vocabulary = entry.vocabulary
            specs[name] = TextSpec(vocabulary.max_words)
        else:
            specs[name] = spec_from_space(entry)
    return specs, vocabulary
