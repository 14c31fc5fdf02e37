"""`mcsd/Nav-v0` and `mcsd/NavMemory-v0`: a robot that searches, remembers and obeys instructions.

The robot stands somewhere in a walled arena among 3 to 6 coloured objects. It hears an instruction and
sees 120 degrees ahead, 4 m far; it is told neither the map nor its own pose. `nav_world` holds the
physics, `nav_language` the grammar and `nav_referee` what counts as done.
"""

from __future__ import annotations

import string
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from envs import nav_referee, nav_varied
from envs.nav_config import STEP_LIMITS, NavConfig
from envs.nav_corrections import VARIED_WORDS as VARIED_CORRECTING_WORDS
from envs.nav_corrections import WORDS as CORRECTING_WORDS
from envs.nav_corrections import correct, negate, understand
from envs.nav_language import Goal, Task, corpus, describe, object_goal, object_name
from envs.nav_phrasings import HELD_OUT_LABELS, say
from envs.nav_referee import Progress, Situation
from envs.nav_world import (
    CLASSES,
    MAX_ANGULAR,
    MAX_LINEAR,
    MAX_RANGE,
    MAX_WHEEL_SPEED,
    NOTHING_LABEL,
    RAYS,
    TICK_S,
    NavWorld,
    sample_layout,
)

MIN_OBJECTS, MAX_OBJECTS = 3, 6
# an interruption comes this many ticks after the instruction that it replaces
_INTERRUPT_AFTER = (5, 80)
# and a correction this many
_CORRECT_AFTER = (5, 40)

# reward: see NavEnv
_PROGRESS_SCALE = 0.3
_TICK_COST = 0.002
_WRONG_OBJECT_COST = 1.0

_MAX_TEXT = 512


class NavEnv(gymnasium.Env[dict[str, Any], np.ndarray]):
    """The navigation task at 10 Hz. Keyword arguments: see `NavConfig`.

    Observation (Dict):
        ranges            float32 (31,) metres in [0, 4], from 60 degrees left to 60 degrees right
        labels            int64 (31,) what each ray hit: 0..11 object (colour * 3 + shape), 12 wall, 13 nothing
        wheel_velocities  float32 (2,) rad/s, left and right
        instruction       str; "" when nothing is being said
    Action: float32 (2,), forward velocity in [0, 0.6] m/s and turn rate in [-1, 1] rad/s (left positive).

    Reward per tick, for learning from scratch:
        0.3 * (potential after - potential before), where the potential is
            go:    -(metres beyond 0.4 m + 0.3 * |bearing|)
            face:  -|bearing|
            stop:  -(speed in m/s + |turn rate| in rad/s)
        + 1 for every completed goal, - 0.002, and - 1 for a wrong object where that ends the episode.
    `terminated` when the last instruction is completed (and `linger_ticks` have passed) or a wrong object ends the
    episode; `truncated` when an instruction has taken 200 ticks (one part), 300 (two parts) or 400 (three).

    `reset(options=...)` takes `instruction` (text; its objects will be present), `n_objects` (3 to 6) and
    `parts` (1 to 3, for drawn instructions of this episode).

    Example:
        >>> env = NavEnv(parts=(1, 0))
        >>> observation, info = env.reset(seed=0, options={"instruction": "Face the blue box!"})
        >>> observation["instruction"], info["parts"], observation["ranges"].shape
        ('Face the blue box!', 1, (31,))
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": round(1 / TICK_S)}  # noqa: RUF012 (gymnasium's name)

    def __init__(self, *, render_mode: str | None = None, **config: Any) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode={render_mode!r}: give 'rgb_array' or None")
        self.config = NavConfig(**config)
        varied = self.config.wording == "varied"
        #: Every word and mark that a trained wording may hold, for whoever builds a vocabulary.
        self.instruction_words = (*corpus(), ",", *(nav_varied.words() if varied else ()))
        if self.config.correction_probability or self.config.negation_probability:
            self.instruction_words += VARIED_CORRECTING_WORDS if varied else CORRECTING_WORDS
        #: And how many of them one instruction has at most.
        self.instruction_max_words = 48 if varied else 24
        self.render_mode = render_mode
        self._text_space = spaces.Text(_MAX_TEXT, min_length=0, charset=_CHARACTERS)
        self.observation_space = spaces.Dict(
            {
                "ranges": spaces.Box(0.0, MAX_RANGE, (RAYS,), np.float32),
                "labels": spaces.MultiDiscrete([NOTHING_LABEL + 1] * RAYS),
                "wheel_velocities": spaces.Box(-MAX_WHEEL_SPEED, MAX_WHEEL_SPEED, (2,), np.float32),
                "instruction": self._text_space,
            }
        )
        self.action_space = spaces.Box(
            np.array([0.0, -MAX_ANGULAR], np.float32), np.array([MAX_LINEAR, MAX_ANGULAR], np.float32)
        )
        self.world = NavWorld()
        # set by reset
        self._objects: dict[int, tuple[float, float]]
        self._scan: tuple[np.ndarray, np.ndarray]
        self._tick: int
        self._deadline: int  # tick at which the current instruction is given up
        self._interrupt_at: int  # tick at which it is replaced, -1 for never
        self._correct_at: int  # tick at which it is corrected, -1 for never
        self._leave_at: int  # tick until which the world goes on when it is carried out
        self._completed: int  # instructions
        self._last_label: int  # object that the current instruction ends at
        self._parts_now: int | None  # parts of drawn instructions in this episode
        self._text: str  # current instruction
        self._heard: int  # observations that have shown it
        self._progress: Progress
        self._potential: float
        self._trail: list[tuple[float, float]] = []

    @property
    def task(self) -> Task:
        """What the instruction that is valid now means, all of it."""
        return self._progress.task

    # ------------------------------------------------------------------------------------ gymnasium

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """A new arena and its first instruction; `ValueError` for an unknown or impossible option."""
        super().reset(seed=seed)
        options = _checked_options(options or {}, self.config)
        text: str | None = options.get("instruction")
        task = None if text is None else understand(text)
        named = () if task is None else tuple(dict.fromkeys(g.label for g in task.goals if g.verb != "stop"))
        rng = self.np_random
        count = options.get("n_objects") or int(rng.integers(MIN_OBJECTS, MAX_OBJECTS + 1))
        others = [k for k in rng.permutation(CLASSES).tolist() if k not in named]
        if task is None and self.config.named != "all":
            # enough to name: what replaces an instruction names another one
            wanted = max(self.config.most_parts, options.get("parts", 0)) + self.config.goes_on
            first = [k for k in others if self._may_name(k)][:wanted]
            others = first + [k for k in others if k not in first]
        labels = (*named, *others)[:count]
        self.world.place(sample_layout(rng, labels))
        self._objects = {placed.label: (placed.x, placed.y) for placed in self.world.layout.objects}
        self._parts_now = options.get("parts")
        self._tick = 0
        self._completed = 0
        self._last_label = -1
        self._trail = [self.world.pose()[:2]]
        self._scan = self.world.scan()
        if task is None or text is None:
            self._speak_drawn(may_interrupt=True)
        else:
            self._speak(text, task)
            self._plan_interruption()
        return self._observation(), self._info()

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """One tick. Stepping on after the end is allowed: the robot keeps driving, nothing is judged."""
        self.world.step(*np.asarray(action, float).tolist())
        self._tick += 1
        self._scan = self.world.scan()
        if self.render_mode is not None:
            self._trail.append(self.world.pose()[:2])
        before = self._progress
        now = self._situation()
        progress = nav_referee.judge(before, now, self.config.wrong_object_ends)
        self._progress = progress
        reward = _PROGRESS_SCALE * (_potential(before.goal, now) - self._potential) - _TICK_COST
        reward += progress.stage - before.stage
        if progress.failed and not before.failed:
            reward -= _WRONG_OBJECT_COST
        if progress.succeeded and not before.succeeded:
            self._completed += 1
            self._leave_at = self._tick + self._draw_linger()
        if progress.succeeded and self._tick == self._leave_at:
            missed = self._interrupt_at >= 0 and bool(self.config.linger_ticks)
            if missed or self._completed < self.config.instructions_per_episode:
                self._speak_drawn(may_interrupt=True)
        elif self._tick == self._interrupt_at and not progress.over:
            self._speak_drawn(may_interrupt=False)
        elif self._tick == self._correct_at and not progress.over:
            self._speak_correction()
        self._potential = _potential(self._progress.goal, now)
        lingers = self._progress.succeeded and self._tick < self._leave_at
        terminated = self._progress.over and not lingers
        truncated = not terminated and not lingers and self._tick >= self._deadline
        return self._observation(), reward, terminated, truncated, self._info()

    def render(self) -> np.ndarray | None:
        """Top view, uint8 RGB (534, 480, 3), with the scan and the path so far; None without a render mode."""
        if self.render_mode is None:
            return None
        # imported here: robots in simulation need no opencv
        from envs.nav_render import draw

        return draw(self.world_state(), *self._scan, self._trail, size=480)

    # ------------------------------------------------------------------------------- simulator nodes

    def set_instruction(self, text: str) -> None:
        """Replaces the current instruction; heard from the next observation on, with a fresh time limit.

        Raises:
            ValueError: `text` is not in the grammar, or names an object that is not in this arena.
        """
        task = understand(text, self._progress.task)
        for goal in task.goals:
            if goal.verb != "stop" and goal.label not in self._objects:
                present = ", ".join(object_name(label) for label in self._objects)
                raise ValueError(f"there is no {object_name(goal.label)} in this arena; present: {present}")
        self._interrupt_at = self._correct_at = -1
        self._speak(text, task)

    def world_state(self) -> dict[str, Any]:
        """The truth, as JSON: pose, objects, instruction, stage, parts, success, failed, collisions, tick."""
        x, y, theta = self.world.pose()
        return {
            "pose": {"x": x, "y": y, "theta": theta},
            "objects": [
                {"name": object_name(placed.label), "x": placed.x, "y": placed.y, "theta": placed.theta}
                for placed in self.world.layout.objects
            ],
            "instruction": self._text,
            "stage": self._progress.stage,
            "parts": len(self._progress.task.goals),
            "success": self._progress.succeeded,
            "failed": self._progress.failed,
            "collisions": self.world.collisions,
            "tick": self._tick,
        }

    # ---------------------------------------------------------------------------------- instructions

    def _speak(self, text: str, task: Task) -> None:
        # a spoken text may hold any character; the observation may not
        self._text = text if text in self._text_space else describe(task)
        self._heard = 0
        self._audible = self._draw_audible()
        now = self._situation()
        self._progress = nav_referee.begin(task, now)
        self._potential = _potential(self._progress.goal, now)
        self._deadline = self._tick + STEP_LIMITS[len(task.goals)]
        self._leave_at = 0
        self._last_label = task.goals[-1].label

    def _speak_drawn(self, may_interrupt: bool) -> None:
        task = self._draw_task()
        self._speak(self._worded(task), task)
        self._interrupt_at = self._correct_at = -1
        if may_interrupt:
            self._plan_interruption()

    def _worded(self, task: Task) -> str:
        goal, rng = task.goals[0], self.np_random
        if self.config.negation_probability and len(task.goals) == 1 and goal.verb != "stop":
            others = [k for k in self._objects if k != goal.label and self._may_name(k)]
            if others and rng.random() < self.config.negation_probability:
                other = object_goal(goal.verb, others[int(rng.integers(len(others)))])
                return negate(rng, goal, other, self.config.wording)
        return say(rng, task, self.config.wording)

    def _plan_interruption(self) -> None:
        self._interrupt_at = self._correct_at = -1
        if self.np_random.random() < self.config.interrupt_probability:
            self._interrupt_at = self._tick + int(self.np_random.integers(*_INTERRUPT_AFTER))
        goal, is_single = self._progress.goal, len(self._progress.task.goals) == 1
        may_correct = (
            self.config.correction_probability and is_single and goal.verb != "stop" and self._interrupt_at < 0
        )
        # nothing is drawn where nothing is corrected: episodes stay what they were
        if may_correct and self.np_random.random() < self.config.correction_probability:
            self._correct_at = self._tick + int(self.np_random.integers(*_CORRECT_AFTER))

    def _speak_correction(self) -> None:
        """Another object that is here is meant, and only what changes is said."""
        before = self._progress.goal
        others = [k for k in self._objects if k != before.label and self._may_name(k)]
        if not others:
            return
        after = object_goal(before.verb, others[int(self.np_random.integers(len(others)))])
        self._speak(correct(self.np_random, before, after, self.config.wording), Task((after,)))

    def _may_name(self, label: int) -> bool:
        return self.config.named == "all" or (label in HELD_OUT_LABELS) == (self.config.named == "held_out")

    def _draw_audible(self) -> int | None:
        """For how many observations the instruction that begins now can be heard."""
        spoken = self.config.spoken_ticks
        if spoken is None or isinstance(spoken, int):
            return spoken
        low, high = spoken
        return round(low * (high / low) ** self.np_random.random())

    def _draw_linger(self) -> int:
        ticks = self.config.linger_ticks
        return ticks if isinstance(ticks, int) else int(self.np_random.integers(ticks[0], ticks[1], endpoint=True))

    def _draw_task(self) -> Task:
        rng = self.np_random
        one, two = self.config.parts[:2]
        drawn_parts = 1.0 - rng.random()
        parts = self._parts_now or 1 + (drawn_parts > one) + (drawn_parts > one + two + 1e-9)
        weights = {v: w for v, w in self.config.verbs.items() if w > 0 and (parts == 1 or v != "stop")}
        verbs = list(weights)
        total = sum(weights.values())
        drawn = rng.choice(len(verbs), size=parts, p=[w / total for w in weights.values()]).tolist()
        # where the last instruction ended there is nothing left to do
        labels = [
            k for k in rng.permutation(list(self._objects)).tolist() if k != self._last_label and self._may_name(k)
        ]
        return Task(
            tuple(
                Goal("stop") if verbs[i] == "stop" else object_goal(verbs[i], k)
                for i, k in zip(drawn, labels, strict=False)
            )
        )

    # ---------------------------------------------------------------------------------- what comes out

    def _situation(self) -> Situation:
        return Situation(self._objects, self.world.pose(), self.world.speeds(), self._scan[1])

    def _observation(self) -> dict[str, Any]:
        heard = self._text if self._audible is None or self._heard < self._audible else ""
        self._heard += 1
        ranges, labels = self._scan
        return {
            # the scan is kept for rendering, so what is handed out is a copy
            "ranges": ranges.copy(),
            "labels": labels.copy(),
            "wheel_velocities": self.world.wheel_velocities(),
            "instruction": heard,
        }

    def _info(self) -> dict[str, Any]:
        progress = self._progress
        return {
            "is_success": progress.succeeded,
            "instruction": self._text,
            "stage": progress.stage,
            "parts": len(progress.task.goals),
            "wrong_object": progress.failed,
            "instructions_completed": self._completed,
            "collisions": self.world.collisions,
        }


_CHARACTERS = string.ascii_letters + string.digits + string.punctuation + " "


def _potential(goal: Goal, now: Situation) -> float:
    if goal.verb == "stop":
        return -(now.speeds[0] + abs(now.speeds[1]))
    distance, bearing = now.towards(goal.label)
    return -abs(bearing) if goal.verb == "face" else -(max(0.0, distance - 0.4) + 0.3 * abs(bearing))


def _checked_options(options: dict[str, Any], config: NavConfig) -> dict[str, Any]:
    known = ("instruction", "n_objects", "parts")
    for name in options:
        if name not in known:
            raise ValueError(f"reset option {name!r} is not one of {', '.join(known)}")
    count, parts = options.get("n_objects"), options.get("parts")
    if count is not None and not MIN_OBJECTS <= count <= MAX_OBJECTS:
        raise ValueError(f"reset option n_objects={count!r}: give {MIN_OBJECTS} to {MAX_OBJECTS}")
    if parts is not None and parts not in STEP_LIMITS:
        raise ValueError(f"reset option parts={parts!r}: give 1, 2 or 3")
    if (parts or 1) > 1 and not config.moves:
        raise ValueError(f"reset option parts={parts}: verbs={dict(config.verbs)!r} has neither go nor face")
    return options
