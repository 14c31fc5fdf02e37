"""What may be exchanged in MiniGrid's levels with the mission said alike: left and right, colours, things to carry.

Each leaves an expert's decisions right, so that one demonstration stands for many. Colours may be permuted in all
of BabyAI's levels; keys, balls and boxes only where no door is locked; left and right wherever the view is symmetric.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

COLOURS = ("red", "green", "blue", "purple", "yellow", "grey")
#: Kinds 5, 6 and 7 of MiniGrid; 4 is a door. Nothing else has a colour that a mission could name.
_DOOR, _THINGS = 4, ("key", "ball", "box")
SYMMETRIES = ("mirror", "colours", "things")


class GridSymmetries:
    """Draws one exchange per episode of a batch. `words` maps a word to its id in the encoded mission."""

    def __init__(self, symmetries: Sequence[str], words: Mapping[str, int]) -> None:
        self._symmetries, self._words = tuple(symmetries), words
        self._size = max(words.values(), default=0) + 1

    def __call__(
        self,
        cells: np.ndarray,
        directions: np.ndarray,
        missions: np.ndarray,
        actions: np.ndarray,
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """`(episodes, time, size * size * 3)`, `(episodes, time)`, `(episodes, time, words)`, `(episodes, time)`.

        Returns the same four, exchanged.
        """
        episodes, time = actions.shape
        size = round((cells.shape[-1] // 3) ** 0.5)
        cells = cells.reshape(episodes, time, size, size, 3).copy()
        words = np.tile(np.arange(self._size), (episodes, 1))
        if "colours" in self._symmetries:
            new = rng.permuted(np.tile(np.arange(len(COLOURS)), (episodes, 1)), axis=1)
            named = (cells[..., 0] >= _DOOR) & (cells[..., 0] <= _DOOR + len(_THINGS))
            cells[..., 1] = np.where(named, _looked_up(new, cells[..., 1]), cells[..., 1])
            self._rename(words, COLOURS, new)
        if "things" in self._symmetries:
            new = rng.permuted(np.tile(np.arange(len(_THINGS)), (episodes, 1)), axis=1)
            kinds = np.tile(np.arange(16), (episodes, 1))
            kinds[:, _DOOR + 1 : _DOOR + 1 + len(_THINGS)] = _DOOR + 1 + new
            cells[..., 0] = _looked_up(kinds, cells[..., 0])
            self._rename(words, _THINGS, new)
        if "mirror" in self._symmetries:
            turned = rng.integers(0, 2, episodes).astype(bool)
            cells[turned] = cells[turned][:, :, ::-1]  # the first axis of a view runs from left to right
            directions = np.where(turned[:, None], -directions % 4, directions)
            swapped = np.where(actions < 2, 1 - actions, actions)  # 0 turns left, 1 right
            actions = np.where(turned[:, None], swapped, actions)
            self._rename(words, ("left", "right"), np.where(turned[:, None], [[1, 0]], [[0, 1]]))
        return cells.reshape(episodes, time, -1), directions, _looked_up(words, missions), actions

    def _rename(self, words: np.ndarray, names: Sequence[str], new: np.ndarray) -> None:
        """The word of each name becomes that of the name it turned into, where both are known."""
        ids = np.array([self._words.get(name, 0) for name in names])
        if ids.all():
            words[:, ids] = ids[new]


def _looked_up(table: np.ndarray, values: np.ndarray) -> np.ndarray:
    """`table[i, values[i]]` for every episode i, in the dtype of `values`."""
    rows = np.arange(len(table)).reshape(-1, *[1] * (values.ndim - 1))
    # One index into the flat table takes half the time of two.
    return np.take(table.astype(values.dtype), values + rows * table.shape[1])
