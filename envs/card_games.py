"""Three card games of POPGym (Morad et al., "POPGym", ICLR 2023): what was seen has to be said later.

Decks of 52 cards are shuffled and shown one suit (0 to 3) per tick. The answer is a suit; where one is due, a
right one earns 1/n and a wrong one loses 1/n, n being how many are due, so that a return lies in [-1, 1].

repeat_previous  say the suit seen k - 1 ticks before the one on show
repeat_first     say the first suit of the episode, at every tick
autoencode       watch all cards, then say them in reverse

Nothing that is shown depends on what is said: a game is a script, written when an episode begins, of
observations and of the answers that are due. The environment here and the batch of them in
`envs.vector_memory` both read it off.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import cv2
import gymnasium
import numpy as np
from gymnasium import spaces

SUITS = 4
_DECK = 52
#: Marks a tick at which no answer is due.
NOTHING_DUE = -1

_COLOURS = ((214, 69, 65), (46, 134, 193), (40, 160, 90), (240, 180, 40))
_CELL = 32


@dataclass(frozen=True)
class CardGame(ABC):
    """The rules of one game with `decks` decks."""

    decks: int

    def __post_init__(self) -> None:
        if self.decks < 1:
            raise ValueError(f"decks={self.decks} must be at least 1")

    @property
    def cards(self) -> int:
        """N, the number of cards."""
        return self.decks * _DECK

    @property
    def observation_space(self) -> spaces.Space[Any]:
        """What one observation is."""
        return spaces.Discrete(SUITS)

    @property
    @abstractmethod
    def ticks(self) -> int:
        """T, the number of actions in an episode."""

    @property
    @abstractmethod
    def answers(self) -> int:
        """How many of them earn or lose."""

    @abstractmethod
    def script(self, suits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Suits `(N,)` in their order to observations `(T + 1, …)` and answers due `(T,)`, int64."""

    def shuffle(self, random: np.random.Generator) -> np.ndarray:
        """Suits `(N,)`, each as often as the others."""
        return random.permutation(self.cards) % SUITS


@dataclass(frozen=True)
class RepeatPrevious(CardGame):
    """k = 1 is the card on show, k = 2 the one before."""

    k: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.k < self.cards:
            raise ValueError(f"k={self.k} must be from 1 to {self.cards - 1}, one less than there are cards")

    @property
    def ticks(self) -> int:
        return self.cards - 1

    @property
    def answers(self) -> int:
        return self.cards - self.k

    def script(self, suits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        due = np.full(self.ticks, NOTHING_DUE)
        due[self.k - 1 :] = suits[: self.answers]
        return suits, due


@dataclass(frozen=True)
class RepeatFirst(CardGame):
    """The first card of the episode is asked for at every tick."""

    @property
    def ticks(self) -> int:
        return self.cards - 1

    @property
    def answers(self) -> int:
        return self.ticks

    def script(self, suits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return suits, np.full(self.ticks, suits[0])


@dataclass(frozen=True)
class Autoencode(CardGame):
    """Observations are (1 while watching, suit); the last card is shown as the first answer is due, then only 0."""

    @property
    def observation_space(self) -> spaces.Space[Any]:
        return spaces.MultiDiscrete([2, SUITS])

    @property
    def ticks(self) -> int:
        return 2 * self.cards - 1

    @property
    def answers(self) -> int:
        return self.cards

    def script(self, suits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shown = np.zeros((self.ticks + 1, 2), np.int64)
        shown[: self.cards - 1, 0] = 1
        shown[: self.cards, 1] = suits
        due = np.full(self.ticks, NOTHING_DUE)
        due[self.cards - 1 :] = suits[::-1]
        return shown, due


def make_game(game: str, decks: int, k: int | None = None) -> CardGame:
    """The rules by name.

    Raises:
        ValueError: there is no such game, or it has no such sizes.
    """
    if game == "repeat_previous":
        return RepeatPrevious(decks, 4 if k is None else k)
    if k is not None:
        raise ValueError(f"k={k} is an argument of repeat_previous, not of {game}")
    if game not in ("repeat_first", "autoencode"):
        raise ValueError(f"game={game!r} is none of repeat_previous, repeat_first, autoencode")
    return RepeatFirst(decks) if game == "repeat_first" else Autoencode(decks)


class CardGameEnv(gymnasium.Env[Any, Any]):
    """One game at a time.

    Example:
        >>> env = CardGameEnv("repeat_first", decks=1)
        >>> first, _ = env.reset(seed=0)
        >>> _, reward, _, _, _ = env.step(first)
        >>> round(reward * 51, 6)
        1.0
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 -- gymnasium's name and form

    def __init__(self, game: str, decks: int, k: int | None = None, render_mode: str | None = None) -> None:
        self.game = make_game(game, decks, k)
        self.render_mode = render_mode
        self.observation_space = self.game.observation_space
        self.action_space = spaces.Discrete(SUITS)
        self._reward = 1.0 / self.game.answers
        self._tick = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Shuffle, and show the first card."""
        super().reset(seed=seed)
        self._deal(self.game.shuffle(self.np_random))
        self._tick = 0
        return self._shown[0], {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take the answer and show the next card."""
        due = self._due[self._tick]
        self._tick += 1
        reward = 0.0 if due == NOTHING_DUE else self._reward if action == due else -self._reward
        return self._shown[self._tick], reward, self._tick == self.game.ticks, False, {}

    def get_state(self) -> dict[str, Any]:
        """Everything that decides how the episode and those after it go on, as plain values."""
        return {"suits": self._suits.tolist(), "tick": self._tick, "random": self.np_random.bit_generator.state}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on where `get_state` was called."""
        self._deal(np.array(state["suits"], np.int64))
        self._tick = state["tick"]
        self.np_random.bit_generator.state = state["random"]

    def render(self) -> np.ndarray:
        """The cards of the last 16 ticks, the newest on the right, `(height, width, 3)` uint8."""
        picture = np.full((_CELL * 2, _CELL * 16, 3), 32, np.uint8)
        recent = range(max(0, self._tick - 15), self._tick + 1)
        for column, tick in enumerate(recent, start=16 - len(recent)):
            shown, corner = self._shown[tick], (column * _CELL + 2, _CELL // 2 + 2)
            watching, suit = (1, shown) if isinstance(shown, int) else shown
            opposite = (corner[0] + _CELL - 5, corner[1] + _CELL - 5)
            # Cards on show are filled; during the recital there are outlines.
            cv2.rectangle(picture, corner, opposite, _COLOURS[suit], -1 if watching else 2)
        return picture

    def _deal(self, suits: np.ndarray) -> None:
        self._suits = suits
        shown, due = self.game.script(suits)
        # Lists: an entry of one is read faster than that of an array, and a suit is then a plain int.
        self._due = due.tolist()
        self._shown: Any = shown.tolist() if shown.ndim == 1 else list(shown)
