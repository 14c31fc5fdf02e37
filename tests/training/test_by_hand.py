"""A person records demonstrations at a keyboard or gamepad, and looks at what was recorded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pygame
import pytest
from gymnasium import spaces
from runtime.onnx_models import tiny_artifact

from envs.exploration import DemonstrationNoise
from mcsd_agent.cli import main
from mcsd_agent.errors import UserError
from mcsd_agent.training import by_hand
from mcsd_agent.training.by_hand import record_by_hand
from mcsd_agent.training.demos import RecordConfig, load_demonstrations, save_demonstrations
from mcsd_agent.training.environments import make_env
from mcsd_agent.training.hand import Hand
from mcsd_agent.training.key_map import KeyMap, key_map_for

GRID = "BabyAI-GoToLocal-v0"


@pytest.fixture(autouse=True)
def no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


def press(key: int) -> None:
    pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=key))


def release(key: int) -> None:
    pygame.event.post(pygame.event.Event(pygame.KEYUP, key=key))


class Person(Hand):
    """Presses what a script says, one entry a frame; Escape when it is through."""

    script: list[list[tuple[str, int]]]

    def show(self, picture, lines) -> None:
        super().show(picture, lines)
        for what, key in self.script.pop(0) if self.script else [("down", pygame.K_ESCAPE)]:
            (press if what == "down" else release)(key)


class Short(gymnasium.Env):
    """Succeeds after six ticks."""

    observation_space, action_space = spaces.Box(-1.0, 1.0, (1,)), spaces.Box(-2.0, 1.0, (1,))
    metadata = {"render_modes": ["rgb_array"], "render_fps": 200}  # noqa: RUF012
    ticks = 0

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        self.ticks = 0
        return np.zeros(1, np.float32), {"instruction": "do it"}

    def step(self, action):
        self.ticks += 1
        return np.zeros(1, np.float32), 0.0, self.ticks == 6, False, {"is_success": True}

    def render(self):
        return np.zeros((20, 30, 3), np.uint8)


def drive(monkeypatch: pytest.MonkeyPatch, script: list) -> None:
    monkeypatch.setattr(Person, "script", script, raising=False)
    monkeypatch.setattr(by_hand, "Hand", Person)


def tap(key: int) -> list[tuple[str, int]]:
    return [("down", key), ("up", key)]


def test_an_episode_is_what_the_keys_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turns = [tap(pygame.K_LEFT), tap(pygame.K_RIGHT), tap(pygame.K_LEFT), tap(pygame.K_UP)]
    drive(monkeypatch, [*turns, tap(pygame.K_BACKSPACE), *([tap(pygame.K_RIGHT)] * 70)])
    config = RecordConfig(GRID, {}, "keyboard", only_successes=False)
    recorded = record_by_hand(tmp_path / "d", config, 3, limit=1)
    assert (recorded.episodes, recorded.left_out) == (1, {"discarded": 1})
    (episode,) = load_demonstrations(tmp_path / "d")
    assert episode.seed == 4  # that of seed 3 was discarded
    assert set(episode.actions.tolist()) == {1}
    assert episode.final is not None  # as of any expert: what was seen after the last action, and whether it was done
    assert episode.achieved is not None
    assert not episode.achieved.any()
    assert np.array_equal(episode.labels, episode.actions)
    env = make_env(GRID, {})
    observation, _ = env.reset(seed=4)
    for t in range(len(episode)):
        assert np.array_equal(observation["image"], episode.observations["image"][t])
        observation, *_ = env.step(1)


def test_failures_are_left_out_and_nothing_kept_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drive(monkeypatch, [tap(pygame.K_RIGHT)] * 70)
    with pytest.raises(UserError, match="succeeded in none"):
        record_by_hand(tmp_path / "d", RecordConfig(GRID, {}, "keyboard"), 0)
    assert not (tmp_path / "d").exists()


def test_continuous_actions_go_on_without_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nobody disturbs a person.
    monkeypatch.setattr(DemonstrationNoise, "perturb", lambda self, action: np.full_like(action, 0.5))
    gymnasium.register("mcsd-test/Short-v0", f"{__name__}:Short")
    held = [[("down", pygame.K_RIGHT)], [], [("up", pygame.K_RIGHT)], [("down", pygame.K_LEFT)], [], []]
    drive(monkeypatch, held)
    record_by_hand(tmp_path / "d", RecordConfig("mcsd-test/Short-v0", {}, "keyboard"), 0, limit=1)
    (episode,) = load_demonstrations(tmp_path / "d")
    assert episode.actions.ravel().tolist() == [1.0, 1.0, 0.0, -2.0, -2.0, -2.0]
    assert episode.instruction == "do it"


def test_sticks_and_keys_add_up_within_the_bounds() -> None:
    keys = key_map_for(make_env("mcsd/Nav-v0", {}))
    assert keys.action({}).tolist() == [0.0, 0.0]
    np.testing.assert_allclose(keys.action({"up": 1.0, "left": 1.0}), [0.6, 1.0], rtol=1e-6)
    np.testing.assert_allclose(keys.action({"axis1": -0.5, "axis0": 0.25}), [0.3, -0.25], rtol=1e-6)
    np.testing.assert_allclose(keys.action({"axis1": -1.0, "up": 1.0, "f7": 1.0}), [0.6, 0.0], rtol=1e-6)


def test_of_choices_the_last_pressed_counts() -> None:
    keys = key_map_for(make_env(GRID, {}))
    assert keys.action({}) is None
    assert keys.action({"left": 1.0, "up": 1.0}) == 2
    assert keys.action({"axis0": 1.0}) is None
    cart = key_map_for(make_env("CartPole-v1", {}))
    assert (cart.action({"left": 1.0}), cart.action({"1": 1.0})) == (0, 1)


def test_a_file_says_what_keys_mean(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    file.write_text("{a: 0, d: 1, idle: 0}")
    keys = key_map_for(make_env("CartPole-v1", {}), file)
    assert (keys.action({}), keys.action({"d": 1.0})) == (0, 1)
    for content, said in (
        ("{a: 7}", "a: 7 is no action"),
        ("{idle: 0}", "no key means anything"),
        ("{a: x}", "a: 'x'"),
    ):
        file.write_text(content)
        with pytest.raises(UserError, match=said):
            key_map_for(make_env("CartPole-v1", {}), file)


def test_actions_without_known_keys_are_refused() -> None:
    env = make_env("CartPole-v1", {})
    env.action_space = spaces.MultiBinary(4)
    with pytest.raises(UserError, match="--keys FILE"):
        key_map_for(env)
    env.action_space = spaces.Box(-np.inf, np.inf, (2,))
    with pytest.raises(UserError, match="--keys FILE"):
        key_map_for(env)
    with pytest.raises(UserError, match="idle"):
        KeyMap(spaces.Box(0.5, 1.0, (2,)), {"up": [1.0, 1.0]}, [0.0, 0.0])


def test_no_window_and_no_gamepad_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    out = str(tmp_path / "d")
    assert main(["record", GRID, "--expert", "gamepad", "--out", out]) == 2
    assert "no gamepad is connected" in capsys.readouterr().err
    pygame.display.quit()
    monkeypatch.setenv("SDL_VIDEODRIVER", "nonesuch")
    assert main(["record", GRID, "--expert", "keyboard", "--out", out]) == 2
    assert "no window can be opened" in capsys.readouterr().err
    assert main(["record", GRID, "--keys", "k.yaml", "--out", out]) == 2
    assert "--keys 'k.yaml' is for --expert keyboard or gamepad" in capsys.readouterr().err


def test_of_a_run_its_artifact_is_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "policy.mcsd").write_bytes(tiny_artifact())
    assert main(["inspect", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["artifact"] == str(tmp_path / "policy.mcsd")
    (tmp_path / "policy.mcsd").unlink()
    assert main(["inspect", str(tmp_path)]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_demonstrations_are_described_and_filmed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demos, video = str(tmp_path / "d"), tmp_path / "v.mp4"
    kwargs = ["--set", "parts=[1.0, 0.0]"]
    assert (
        main(["record", "mcsd/Nav-v0", "--episodes", "3", "--processes", "1", "--out", demos, "--quiet", *kwargs]) == 0
    )
    assert main(["inspect", demos, "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (found["env"], found["episodes"], found["success"]) == ("mcsd/Nav-v0", 3, 1.0)
    assert found["steps"] == sum(map(len, load_demonstrations(Path(demos))))
    assert main(["replay", demos, "--video", str(video), "--episodes", "2", "--json"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    lengths = [len(e) for e in load_demonstrations(Path(demos))]
    assert (result["frames"], result["strayed"]) == (sum(lengths[:2]) + 2, 0)
    assert video.stat().st_size > 1000
    others = [replace(e, seed=e.seed + 10) for e in load_demonstrations(Path(demos))]
    save_demonstrations(others, tmp_path / "o", "mcsd/Nav-v0", {"parts": [1.0, 0.0]})
    assert main(["replay", str(tmp_path / "o"), "--video", str(video)]) == 0
    assert "3 episodes went otherwise than recorded" in capsys.readouterr().err
    assert main(["replay", demos, "--video", str(video), "--first", "9"]) == 2
    assert "--first 9 must be below 3" in capsys.readouterr().err
