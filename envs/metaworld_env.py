"""`mcsd/MetaWorld-v0`: ten tasks of a Sawyer arm, told in words to one policy (Meta-World's MT10, arXiv 1910.10897).

Meta-World's own MT10 draws fifty goals a task and judges on the same ones. Here every seed has a goal of its own, so
that seeds which were not trained on are new goals.
"""

from __future__ import annotations

import difflib
import os
import string
import sys
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from envs.exploration import NoiseConfig
from envs.metaworld_language import WORDINGS

_MAX_STEPS, _TOP_REWARD = 500, 10.0
#: Numbers seen, as Meta-World gives them and relative to the hand, and done.
_ABSOLUTE, _RELATIVE, _ACTION = 39, 31, 4
#: Metres within which distances are told once more, finely: a task is done or not by some millimetres.
_CLOSE = 0.03
_GENTLE = NoiseConfig(noisy_episodes=0.75, burst_probability=0.02, burst_ticks=(2, 5), max_deviation=0.2)
_FAR = NoiseConfig(noisy_episodes=1.0, burst_probability=0.02, burst_ticks=(5, 20), max_deviation=0.2)


class MetaWorldEnv(gymnasium.Env[dict[str, Any], np.ndarray]):
    """One of `tasks` an episode, at 80 Hz. `tasks` is "mt10", or names of its tasks such as `["reach", "push"]`.

    Observation (Dict):
        observation  float32 (39,), as in MT10: hand (3), how far the gripper is open (1), two objects of position and
                     quaternion (14, zeros for the second: there is one), the same 18 of the tick before, the goal (3);
                     metres
        instruction  str, one of several wordings of the task
    With `relative` the same is told from the hand, without where on the table it is, float32 (31,): height of the hand
    (1), gripper (1), object from hand (3), quaternion (4), goal from hand (3), goal from object (3), what has moved
    since the tick before: hand (3), gripper (1), object (3), and once more object from hand, goal from hand and goal
    from object (9), as the hyperbolic tangent of the distance in units of 3 cm: finely where they are close.

    At every tick the task is said in other words by `reword_probability`: where a wording is heard in one demonstration
    only, it would be learnt as the name of that demonstration.

    Action: float32 (4,) in [-1, 1], the hand's motion along three axes in centimetres, and the gripper's effort.

    `terminated` when Meta-World says that it is a success, or `linger_ticks` later: demonstrations that go on show how
    to stay there, and how to come back. What was done once is a success. `truncated` after 500 ticks. Its reward of 0
    to 10 is moved to -1 to 0 a tick: with an end at success, rewards above zero would be a reason never to get there.

    The seed of `reset` decides task, goal, where objects lie, and wording. Seeds that follow each other take the tasks
    in turn: ten of MT10 are one episode of each.

    Raises:
        ValueError: an unknown task, or none; a chance beyond 0 to 1; less than no ticks.
        ModuleNotFoundError: the package metaworld is missing.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 80}  # noqa: RUF012 (gymnasium's name)

    def __init__(
        self,
        tasks: str | Sequence[str] = "mt10",
        relative: bool = False,
        reword_probability: float = 0.0,
        linger_ticks: int = 0,
        render_mode: str | None = None,
    ) -> None:
        if not 0.0 <= reword_probability <= 1.0:
            raise ValueError(f"reword_probability={reword_probability} must be from 0 to 1")
        if linger_ticks < 0:
            raise ValueError(f"linger_ticks={linger_ticks} must be at least 0")
        self.tasks, self.relative, self.reword_probability = _checked(tasks), relative, reword_probability
        self.linger_ticks = linger_ticks
        self.render_mode = render_mode
        self._classes = _classes()
        self.instruction_words = tuple(text for task in self.tasks for text in WORDINGS[task])
        self.observation_space = spaces.Dict(
            {
                "observation": spaces.Box(-np.inf, np.inf, (_RELATIVE if relative else _ABSOLUTE,), np.float32),
                "instruction": spaces.Text(max(map(len, self.instruction_words)), charset=string.ascii_letters + " "),
            }
        )
        self.action_space = spaces.Box(-1.0, 1.0, (_ACTION,), np.float32)
        self._arm: Any = None

    @property
    def demonstration_noise(self) -> NoiseConfig:
        """Of demonstrations of this episode's task: bursts that lead away from where an expert would ever be, gentler
        ones at the door. (Its script succeeds in 29 of 30 episodes with these, in 28 with the others.)"""
        return _GENTLE if self.task == "door-open" else _FAR

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """A fresh episode; without a seed, of a drawn task."""
        super().reset(seed=seed)
        drawn = int(self.np_random.integers(len(self.tasks)))
        self.task = self.tasks[drawn if seed is None else seed % len(self.tasks)]
        self._say()
        self._ticks, self._succeeded_at = 0, -1
        self.close()
        # A simulation of its own for every episode: nothing is left of the one before, and it takes 30 ms.
        self._arm = self._classes[f"{self.task}-v3"](render_mode=self.render_mode, camera_name="corner2")
        # As Meta-World does in MT10: the goal is observed. Its own generator draws the goal.
        self._arm._partially_observable = False
        del self._arm.sawyer_observation_space
        self._arm._set_task_called, self._arm._freeze_rand_vec, self._arm.seeded_rand_vec = True, False, True
        self._arm.seed(int(self.np_random.integers(2**31)))
        observation, _ = self._arm.reset()
        return self._seen(observation), self._info(False)

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """One tick of 12.5 ms."""
        action = np.clip(np.asarray(action, np.float32), -1.0, 1.0)
        observation, reward, _, _, info = self._arm.step(action)
        self._ticks += 1
        if self.reword_probability and self.np_random.random() < self.reword_probability:
            self._say()
        if self._succeeded_at < 0 and info["success"]:
            self._succeeded_at = self._ticks
        success = self._succeeded_at >= 0
        late = self._ticks >= _MAX_STEPS
        over = success and (late or self._ticks >= self._succeeded_at + self.linger_ticks)
        return self._seen(observation), float(reward) / _TOP_REWARD - 1.0, over, late and not over, self._info(success)

    def render(self) -> np.ndarray | None:
        """The scene from a corner, `(480, 480, 3)` uint8."""
        return None if self.render_mode is None else self._arm.render()

    def close(self) -> None:
        """End the simulation."""
        if self._arm is not None:
            self._arm.close()
            self._arm = None

    def _say(self) -> None:
        self._instruction = str(self.np_random.choice(WORDINGS[self.task]))

    def _seen(self, observation: np.ndarray) -> dict[str, Any]:
        self.absolute = observation  # what Meta-World's scripts read
        seen = _from_the_hand(observation) if self.relative else observation
        return {"observation": seen.astype(np.float32), "instruction": self._instruction}

    def _info(self, success: bool) -> dict[str, Any]:
        return {"is_success": success, "instruction": self._instruction, "instruction_kind": self.task}


def _checked(tasks: str | Sequence[str]) -> tuple[str, ...]:
    if tasks == "mt10":
        return tuple(WORDINGS)
    names = (tasks,) if isinstance(tasks, str) else tuple(tasks)
    if not names:
        raise ValueError("tasks is empty; give 'mt10' or names of its tasks")
    for name in names:
        if name not in WORDINGS:
            near = difflib.get_close_matches(str(name), ["mt10", *WORDINGS], 1, 0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"choose 'mt10' or some of {', '.join(WORDINGS)}"
            raise ValueError(f"unknown task {name!r}; {hint}")
    return names


def _from_the_hand(seen: np.ndarray) -> np.ndarray:
    hand, thing, goal, moved = seen[:3], seen[4:7], seen[36:], seen[:7] - seen[18:25]
    apart = np.concatenate([thing - hand, goal - hand, goal - thing])
    return np.concatenate([seen[2:4], apart[:3], seen[7:11], apart[3:], moved, np.tanh(apart / _CLOSE)])


def _classes() -> dict[str, Any]:
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        os.environ.setdefault("MUJOCO_GL", "egl")  # a picture in memory needs no screen
    try:
        from metaworld.env_dict import MT10_V3
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "metaworld":
            raise
        raise ModuleNotFoundError(
            "it needs the package metaworld; run: pip install 'mcsd-agent[metaworld]'", name="metaworld"
        ) from None
    return MT10_V3
