"""An expert for MiniGrid's Memory: look at the object in the first room, walk to the end, take the side of its like.

It acts on what is seen alone, as a policy must: where it does not see the object at once it walks back until it
does, so that its clone learns to look. Only which object it was has to be remembered.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_WALL, _THINGS = 2, (5, 6)  # key and ball, the kinds that levels hide
_LEFT, _RIGHT, _FORWARD = 0, 1, 2
_EAST, _WEST = 0, 2


class MemoryExpert:
    """See the module. Actions are MiniGrid's, int64 `()`."""

    def reset(self) -> None:
        """Nothing has been seen."""
        self._seen: int | None = None
        self._side: int | None = None

    def act(self, observation: dict[str, Any]) -> np.ndarray:
        """The action for this tick."""
        cells = np.asarray(observation["image"])
        size = round((cells.size / 3) ** 0.5)
        return np.asarray(self._act(cells.reshape(size, size, 3)[..., 0], int(observation["direction"])), np.int64)

    def _act(self, kinds: np.ndarray, direction: int) -> int:
        """`kinds` `(size, size)` from left to right and from far to near; the robot is in the middle of the last."""
        middle, here = len(kinds) // 2, len(kinds) - 1
        if self._side is not None:
            return _FORWARD
        if self._seen is None:
            # Facing west there is nothing but the first room; who starts beside the object has it on the left.
            where = kinds if direction == _WEST else kinds[middle - 1 : middle, here:]
            found = where[np.isin(where, _THINGS)]
            if not found.size:
                return _FORWARD if direction == _WEST else _LEFT
            self._seen = int(found[0])
        if direction != _EAST:
            return _LEFT
        if kinds[middle, here - 1] != _WALL:
            return _FORWARD
        self._side = _LEFT if kinds[middle - 2, here] == self._seen else _RIGHT
        return self._side
