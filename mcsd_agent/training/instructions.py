"""Instructions in gymnasium: Text entries become word ids or vectors, which vectorised environments can batch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from mcsd_agent.errors import UserError
from mcsd_agent.language import Vocabulary, split_words
from mcsd_agent.runtime.sentences import Sentences
from mcsd_agent.runtime.text_encoders import TextEncoder
from mcsd_agent.spaces import Spec, TextSpec, spec_from_space, specs_from_space

#: Words that a policy reads at least, though what it was trained on was shorter.
_FEWEST_WORDS = 24


class WordIds(spaces.MultiDiscrete):
    """The space of instructions as word ids; remembers the vocabulary that encodes them."""

    def __init__(self, encoder: Vocabulary) -> None:
        super().__init__([encoder.size] * encoder.max_words)
        self.encoder = encoder

    @property
    def spec(self) -> TextSpec:
        """What a policy reads."""
        return TextSpec(self.encoder.max_words)


class SentenceVectors(spaces.Box):
    """The space of instructions as vectors of a sentence encoder, which it remembers."""

    def __init__(self, encoder: Sentences) -> None:
        super().__init__(-np.inf, np.inf, (encoder.max_tokens, encoder.size), np.float32)
        self.encoder = encoder

    @property
    def spec(self) -> TextSpec:
        """What a policy reads."""
        return TextSpec(self.encoder.max_tokens, embedding=self.encoder.size, dtype="float32")


class EncodeInstruction(gymnasium.ObservationWrapper):
    """Replaces each Text entry of a Dict observation by what `encoder` makes of it: int64 word ids `(max_words,)`, or
    float32 vectors `(max_tokens, size)`."""

    def __init__(self, env: gymnasium.Env, encoder: TextEncoder) -> None:
        super().__init__(env)
        if not isinstance(env.observation_space, spaces.Dict):
            raise UserError(f"observation space {env.observation_space} must be a Dict with a Text entry")
        entries = env.observation_space.spaces
        self.encoder = encoder
        self._texts = [k for k, s in entries.items() if isinstance(s, spaces.Text)]
        self._encoded: dict[str, np.ndarray] = {}
        encoded = SentenceVectors(encoder) if isinstance(encoder, Sentences) else WordIds(encoder)  # type: ignore[arg-type]
        self.observation_space = spaces.Dict({k: encoded if k in self._texts else s for k, s in entries.items()})

    def observation(self, observation: dict[str, Any]) -> dict[str, Any]:
        """The same dict with numbers for text."""
        encoded = dict(observation)
        for name in self._texts:
            text = observation[name]
            if text not in self._encoded:
                self._encoded[text] = self.encoder.encode(text)
            encoded[name] = self._encoded[text]
        return encoded

    def get_state(self) -> dict[str, Any]:
        """Nothing: what texts were encoded before changes nothing that comes."""
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Nothing."""


def has_text(space: gymnasium.Space) -> bool:
    """Whether a Dict space holds a Text entry."""
    return isinstance(space, spaces.Dict) and any(isinstance(s, spaces.Text) for s in space.spaces.values())


def vocabulary_for(
    env: gymnasium.Env, max_words: int | None = None, resets: int = 256, said: Iterable[str] = ()
) -> Vocabulary:
    """The words an environment can say: its `instruction_words`, else those of `said`, else those heard in `resets`
    episodes, which only a simulated environment is asked for.

    Without `max_words` the longest of `said`, or of what was heard, decides how many are read: at least 24.
    """
    said = list(said)
    known = getattr(env.unwrapped, "instruction_words", None)
    heard = said if known else instructions_of(env, said, resets)
    longest = max((len(split_words(text)) for text in heard), default=0)
    return Vocabulary.from_texts(known or heard, max_words or max(_FEWEST_WORDS, -(-longest // 8) * 8))


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


def encoder_for(env: gymnasium.Env, kind: str = "words", said: Iterable[str] = ()) -> TextEncoder | None:
    """What encodes an environment's text, of the kind that `policy.encoder.instruction` names; None without text.

    `said` are instructions that it must know, where the environment does not list its words.
    """
    if not has_text(env.observation_space):
        return None
    if kind == "sentence":
        return Sentences.from_texts(instructions_of(env, said))
    return vocabulary_for(env, getattr(env.unwrapped, "instruction_max_words", None), said=said)


def policy_specs(space: gymnasium.Space) -> tuple[dict[str, Spec], TextEncoder | None]:
    """Observation specs of a space whose text is already encoded, and what encodes it."""
    if not isinstance(space, spaces.Dict):
        return specs_from_space(space), None
    specs: dict[str, Spec] = {}
    encoder: TextEncoder | None = None
    for name, entry in space.spaces.items():
        if isinstance(entry, (WordIds, SentenceVectors)):
            encoder, specs[name] = entry.encoder, entry.spec
        else:
            specs[name] = spec_from_space(entry)
    return specs, encoder
