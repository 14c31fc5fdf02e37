"""Whether inputs that seldom change have changed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Unchanged:
    """Remembers the arrays for which something was computed: by what they hold, since callers may write into theirs."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Nothing is remembered."""
        self._arrays: tuple[np.ndarray, ...] = ()
        self._bytes: tuple[bytes, ...] | None = None

    def is_so(self, arrays: Sequence[np.ndarray]) -> bool:
        """Whether `arrays` hold what those of the last `remember` held then."""
        if len(arrays) == len(self._arrays) and all(map(_is_same, arrays, self._arrays)):
            return True
        return tuple([a.tobytes() for a in arrays]) == self._bytes

    def remember(self, arrays: Sequence[np.ndarray]) -> None:
        """What is computed now is for these."""
        self._arrays = tuple(arrays)
        self._bytes = tuple([a.tobytes() for a in arrays])


def _is_same(array: np.ndarray, before: np.ndarray) -> bool:
    # A cached instruction: nobody can have written into memory of its own that is not to be written.
    return array is before and not array.flags.writeable and array.base is None
