"""What the demo says: fresh instructions in fresh arenas, drawn from a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from envs.nav import STEP_LIMITS
from envs.nav_language import Goal, Task, describe, generate, object_goal

#: Arenas of the demo; demonstrations, DAgger and evaluation use other seeds.
_FIRST_ARENA = 2_000_000
_SECONDS_PER_TICK = 0.1


@dataclass(frozen=True)
class Order:
    """One order in one arena.

    `arrange` names every object that must be there; `text` is said at once and `change_to`, where
    there is one, `change_after_s` later: then only that one counts.
    """

    arena: int
    arrange: str
    text: str
    limit_s: float
    change_to: str | None = None
    change_after_s: float = 0.0

    @property
    def title(self) -> str:
        """The order in one line."""
        return self.text if self.change_to is None else f"{self.text} → {self.change_to}"


def write_script(seed: int = 0) -> list[Order]:
    """Eleven orders: seven `go`, one `face`, one changed on the way, two of two parts; other words for every seed."""
    rng = np.random.default_rng([seed, 77])
    kinds = [("go",)] * 7 + [("face",), ("go", "go"), ("face", "go"), ("change",)]
    orders = []
    for i, kind in enumerate(rng.permutation(np.array(kinds, dtype=object)).tolist()):
        first, second = (int(k) for k in rng.permutation(12)[:2])
        arena = _FIRST_ARENA + 1000 * seed + i
        if kind == ("change",):
            before, after = object_goal("go", first), object_goal("go", second)
            orders.append(
                Order(
                    arena,
                    describe(Task((before, after))),
                    generate(rng, Task((before,))),
                    _limit(1),
                    change_to=generate(rng, Task((after,))),
                    change_after_s=2.5,
                )
            )
            continue
        goals: tuple[Goal, ...] = tuple(object_goal(v, k) for v, k in zip(kind, (first, second), strict=False))
        task = Task(goals)
        orders.append(Order(arena, describe(task), generate(rng, task), _limit(len(goals))))
    return orders


def _limit(parts: int) -> float:
    return STEP_LIMITS[parts] * _SECONDS_PER_TICK
