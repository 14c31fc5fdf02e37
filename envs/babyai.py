"""BabyAI's bot as an expert: it knows the whole level and plans the shortest way through what it has seen.

The bot (`minigrid.utils.baby_ai_bot`; Chevalier-Boisvert et al., arXiv 1810.08272) can plan for ever, and now and
then finds no way: `BotExpert` ends that with `ExpertFailed`, by counting and not by the clock, so that what is
recorded depends on the seed alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from minigrid.utils.baby_ai_bot import BabyAIBot, DisappearedBoxError

from envs import ExpertFailed

#: Searches in one tick, and cells looked at in one episode. 60 episodes of BossLevel needed at most 10 and 124 000.
_MAX_SEARCHES, _MAX_CELLS = 200, 1_000_000


class BotExpert:
    """The bot for one environment, which it looks into. `reset` comes after the environment's own."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        self._level: Any = env.unwrapped
        if not hasattr(self._level, "instrs") and not hasattr(type(self._level), "gen_mission"):
            raise ValueError("it is no level of BabyAI")

    def reset(self) -> None:
        """Begin the level as it is now."""
        self._bot = _guarded(lambda: _BoundedBot(self._level))
        self._done: int | None = None

    def act(self, observation: Any) -> np.ndarray:
        """The action for this tick, int64 `()`. May raise `ExpertFailed`.

        The last one is taken to have been done, unless `see` told otherwise.
        """
        size = self._level.agent_view_size
        self._bot.in_view = np.asarray(observation["image"]).reshape(size, size, 3)[..., 0] != 0
        self._action = int(_guarded(lambda: self._bot.replan(self._done)))
        if self._action == self._level.actions.done:
            raise ExpertFailed("it takes the mission to be accomplished")
        self._done = None
        return np.asarray(self._action, np.int64)

    def see(self, action: Any) -> None:
        """What was done at this tick, where it may be something else."""
        self._done = None if int(action) == self._action else int(action)


def _guarded(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except (AssertionError, DisappearedBoxError, IndexError, TypeError, ValueError) as error:
        # what the bot stumbles over where it has no plan
        raise ExpertFailed(" ".join(str(error).split()) or type(error).__name__) from None


class _BoundedBot(BabyAIBot):
    """The same decisions with a bound on planning, in less time."""

    #: `(size, size)`, which cells of the view are visible now: the observation has told it already.
    in_view: np.ndarray

    def replan(self, action_taken: Any = None) -> Any:
        self._searches = 0
        return super().replan(action_taken)

    def _process_obs(self) -> None:
        level, size = self.mission.unwrapped, self.mission.unwrapped.agent_view_size
        right, ahead = np.nonzero(self.in_view)
        corner = level.agent_pos + level.dir_vec * (size - 1) - level.right_vec * (size // 2)
        x, y = corner[:, None] - level.dir_vec[:, None] * ahead + level.right_vec[:, None] * right
        inside = (x >= 0) & (y >= 0) & (x < self.vis_mask.shape[0]) & (y < self.vis_mask.shape[1])
        self.vis_mask[x[inside], y[inside]] = True

    def _breadth_first_search(self, initial_states: Any, accept_fn: Any, ignore_blockers: bool) -> Any:
        self._searches += 1
        if self._searches > _MAX_SEARCHES:
            raise ExpertFailed("it plans in circles")
        if self.bfs_step_counter > _MAX_CELLS:
            raise ExpertFailed("it searches too long")
        self.bfs_counter += 1
        grid, seen = self.mission.unwrapped.grid, self.vis_mask
        queue: deque[Any] = deque((state, None) for state in initial_states)
        previous: dict[tuple[int, int], Any] = {}
        while queue:
            (i, j, di, dj), came_from = queue.popleft()
            here = (i, j)
            if here in previous:
                continue
            self.bfs_step_counter += 1
            cell = grid.get(i, j)
            previous[here] = came_from
            if accept_fn(here, cell):
                path, at = [], here
                while at:
                    path.append(at)
                    at = previous[at]
                return path, here, previous
            if not seen[i, j] or (cell and _blocks(cell, ignore_blockers)):
                continue
            # what can be reached without turning comes first
            for k, m in ((di, dj), (dj, di), (-dj, -di), (-di, -dj)):
                queue.append(((i + k, j + m, k, m), here))
        return None, None, previous


def _blocks(cell: Any, ignore_blockers: bool) -> bool:
    if cell.type == "door":
        return not cell.is_open
    return cell.type == "wall" or not ignore_blockers
