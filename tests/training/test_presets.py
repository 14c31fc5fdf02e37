"""What an environment is trained with when no config says otherwise."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from gymnasium import spaces

from mcsd_agent.strict import build
from mcsd_agent.training.config import TrainConfig, load_config
from mcsd_agent.training.environments import make_env
from mcsd_agent.training.presets import preset_for

BOX = spaces.Box(-1, 1, (3,), np.float32)
CONFIGS = [
    path
    for folder in ("configs", "configs/memory")
    for path in sorted(Path(folder).glob("*.yaml"))
    if "env" in (yaml.safe_load(path.read_text()) or {})
]


def preset(env_id):
    env = make_env(env_id)
    return preset_for(env_id, env.observation_space, env.action_space, env.metadata)


@pytest.mark.parametrize(
    "env_id",
    [
        "CartPole-v1",
        "mcsd/PendulumNoVel-v1",
        "mcsd/MountainCarContinuousNoVel-v0",
        "mcsd/Nav-v0",
        "mcsd/RepeatPreviousHard-v0",
        "popgym-AutoencodeMedium-v0",
        "popgym:popgym-BattleshipEasy-v0",
        "mcsd/PassiveTMaze-v0",
        "MiniGrid-MemoryS7-v0",
        "HalfCheetah-v5",
        "FrozenLake-v1",
    ],
)
def test_every_preset_is_a_valid_config_of_a_rollout_that_minibatches_divide(env_id):
    config = build(TrainConfig, {"env": env_id, **preset(env_id)})
    assert config.n_envs % 4 == 0
    assert config.rate_hz or make_env(env_id).metadata.get("render_fps")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_preset_of_an_environment_says_what_its_config_says(path):
    config = load_config(TrainConfig, path)
    if config.algorithm != "ppo":
        return
    same = build(TrainConfig, {"env": config.env, **preset(config.env)})
    for name in ("n_envs", "env_kwargs", "options", "normalize_reward", "policy", "ppo"):
        assert getattr(same, name) == getattr(config, name), f"{path} and presets.py differ in {name}; change both"


@pytest.mark.parametrize(
    ("env_id", "ticks"), [("RepeatPreviousMedium", 103), ("RepeatFirstHard", 831), ("AutoencodeEasy", 103)]
)
def test_rollouts_of_memory_tasks_are_whole_episodes(env_id, ticks):
    assert make_env(f"mcsd/{env_id}-v0").unwrapped.game.ticks == ticks
    assert preset(f"mcsd/{env_id}-v0")["ppo"]["n_steps"] % ticks == 0
    assert preset(f"mcsd/{env_id}-v0") == preset(f"popgym-{env_id}-v0")


def test_unknown_environments_are_told_apart_by_their_spaces():
    picture = spaces.Dict({"eye": spaces.Box(0, 255, (64, 64, 3), np.uint8), "speed": BOX})
    small, large = (preset_for("x/Unknown-v0", space, BOX) for space in (BOX, picture))
    assert large["policy"]["width"] > small["policy"]["width"]
    assert large["n_envs"] < small["n_envs"]
    assert "ent_coef" in preset_for("x/Unknown-v0", BOX, spaces.Discrete(2))["ppo"]
    assert "ent_coef" not in small["ppo"]


def test_an_environment_that_states_no_rate_gets_one():
    assert preset_for("x/Unknown-v0", BOX, BOX, {"render_modes": []})["rate_hz"] == 10
    assert "rate_hz" not in preset_for("x/Unknown-v0", BOX, BOX, {"render_fps": 30})


def test_a_preset_can_be_changed_without_changing_the_next():
    first = preset("CartPole-v1")
    first["ppo"]["gamma"] = 0.0
    assert preset("CartPole-v1")["ppo"]["gamma"] > 0
