"""Robots in the commands that know environments: convert, record, imitate, eval and train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
import yaml
from conftest import ROBOT
from fake_robot import ROBOT as FAKE
from fake_robot import robot_config

from mcsd_agent.cli import main
from mcsd_agent.errors import UserError
from mcsd_agent.policy import Policy, PolicyConfig
from mcsd_agent.spaces import spec_from_space, specs_from_space
from mcsd_agent.training.config import TrainConfig
from mcsd_agent.training.demos import RecordConfig, load_demonstrations, record, save_demonstrations
from mcsd_agent.training.environments import make_env, make_vec
from mcsd_agent.training.episodes import run_episodes
from mcsd_agent.training.evaluation import summarise
from mcsd_agent.training.fine_tuning import start_from, with_policy_of
from mcsd_agent.training.learner import build_learner
from mcsd_agent.training.policy_fit import check_policy_fits
from mcsd_agent.training.runs import policy_for
from mcsd_agent.training.stored_policy import StoredPolicy

NAV = {"robot": str(ROBOT)}


@pytest.fixture
def robot(tmp_path: Path) -> Path:
    path = tmp_path / "robot.yaml"
    path.write_text(yaml.safe_dump(FAKE))
    return path


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the Nav robot's environment, which is like it."""
    path = tmp_path_factory.mktemp("demos") / "nav"
    save_demonstrations(record(RecordConfig(episodes=4, processes=1)), path, "mcsd/Nav-v0", {})
    return path


def error_of(capfd: Any, *arguments: Any) -> str:
    """The one line of a command that ends with code 2."""
    assert main([str(a) for a in arguments]) == 2
    (line,) = [x for x in capfd.readouterr().err.splitlines() if x]
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_demonstrations_become_a_bag_and_come_back_equal(demos, tmp_path, storage, capsys):
    bag, back = tmp_path / "bag", tmp_path / "back"
    assert main(["convert", str(demos), "--robot", str(ROBOT), "--out", str(bag), "--storage", storage]) == 0
    assert main(["convert", str(bag), "--robot", str(ROBOT), "--out", str(back), "--json"]) == 0
    assert '"to": "demonstrations"' in capsys.readouterr().out
    for before, after in zip(load_demonstrations(demos), load_demonstrations(back), strict=True):
        np.testing.assert_array_equal(before.actions, after.actions)
        assert before.observations.keys() == after.observations.keys()
        for name, values in before.observations.items():
            np.testing.assert_array_equal(values, after.observations[name])
        assert (before.success, before.instruction) == (after.success, after.instruction)


def test_bad_sources_are_one_line(demos, robot, tmp_path, capfd):
    convert = ("convert", "--robot", ROBOT, "--out", tmp_path / "out")
    assert "does not exist" in error_of(capfd, *convert, tmp_path / "nothing")
    (tmp_path / "broken.mcap").write_bytes(b"\x89MCAP0\r\n and no more")
    assert "cannot be read" in error_of(capfd, *convert, tmp_path / "broken.mcap")
    assert "exists already" in error_of(capfd, "convert", demos, "--robot", ROBOT, "--out", demos)
    # Demonstrations of another robot.
    assert "'joint'" in error_of(capfd, "convert", demos, "--robot", robot, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_recording_asks_for_one_thing_to_record(robot, tmp_path, capfd):
    out = ("--out", tmp_path / "out")
    assert "give an environment's id or --robot" in error_of(capfd, "record", *out)
    assert "exclude each other" in error_of(capfd, "record", "mcsd/Nav-v0", "--robot", robot, *out)
    assert "--seconds 0.0 must be above 0" in error_of(capfd, "record", "--robot", robot, "--seconds", "0", *out)
    line = error_of(
        capfd, "record", "--robot", robot, "--url", "ws://127.0.0.1:1", "--by", "instruction", "--quiet", *out
    )
    assert "no instruction topic" in line


def test_recording_of_nothing_says_what_was_missing(robot, tmp_path, capfd, fake_server):
    record_for = ("record", "--robot", robot, "--url", fake_server.url, "--seconds", "0.3", "--quiet")
    line = error_of(capfd, *record_for, "--out", tmp_path / "out")
    assert "no episode was recorded: nothing on /cmd_vel, /joint_states" in line
    assert not (tmp_path / "out").exists()


def test_words_of_a_real_robot_come_from_demonstrations_or_are_asked_for():
    policy = policy_for("mcsd/Ros-v0", NAV, PolicyConfig(width=16, layers=1), 0, ["go left", "stop"])
    assert policy.vocabulary is not None
    assert policy.vocabulary.words == ("go", "left", "stop")
    with pytest.raises(UserError, match="instruction_words"):
        policy_for("mcsd/Ros-v0", NAV, PolicyConfig(width=16, layers=1), 0)


def test_a_robot_is_there_once(robot, tmp_path, capfd):
    with pytest.raises(UserError, match="one robot, in real time; set n_envs=1"):
        make_vec("mcsd/Ros-v0", NAV, n_envs=2)
    train = (
        "train",
        "--env",
        "mcsd/Ros-v0",
        "--set",
        f"env_kwargs.robot={robot}",
        "--seeds",
        "2",
        "--out",
        tmp_path / "r",
    )
    assert "add --jobs 1" in error_of(capfd, *train)
    (tmp_path / "task.yaml").write_text("max_steps: 0")
    task = ("--env-kwargs", tmp_path / "task.yaml")
    assert "max_steps=0" in error_of(capfd, *train, *task)
    assert "needs --env" in error_of(capfd, "train", "configs/cartpole_novel.yaml", *task)

    made: list[gymnasium.Env] = []

    class Real(gymnasium.Env):
        metadata = {"render_modes": [], "real_time": True}  # noqa: RUF012
        observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,))
        action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,))

        def reset(self, *, seed: Any = None, options: Any = None) -> Any:
            return np.zeros(1, np.float32), {}

        def step(self, action: Any) -> Any:
            return np.zeros(1, np.float32), 0.0, False, True, {"reason": "stale:scan"}

    def make() -> gymnasium.Env:
        made.append(Real())
        return made[-1]

    episodes = run_episodes(make, lambda batch: lambda seen, starts: np.zeros((batch, 1)), range(3), parallel=3)
    assert len(made) == 1
    evaluation = summarise("all", episodes)
    assert evaluation.ended == {"stale:scan": 3}
    assert "ended: stale:scan 3" in str(evaluation)


def test_policy_that_does_not_fit_the_robot_is_refused():
    env = make_env("mcsd/Ros-v0", {"robot": robot_config()})

    def policy(**changes: Any) -> Policy:
        spaces = {"joint": gymnasium.spaces.Box(-1.0, 1.0, (1,)), **changes.pop("more", {})}
        action = changes.pop("action", env.action_space)
        specs = specs_from_space(gymnasium.spaces.Dict({**spaces, **changes}))
        return Policy(specs, spec_from_space(action), PolicyConfig(width=16, layers=1), None)

    check_policy_fits(policy(), env, 20.0)
    for other, part in (
        (policy(camera=gymnasium.spaces.Box(-1.0, 1.0, (3,))), "observation 'camera'"),
        (policy(joint=gymnasium.spaces.Box(-1.0, 1.0, (2,))), "observation 'joint' is box of shape"),
        (policy(action=gymnasium.spaces.Discrete(3)), "action is discrete"),
    ):
        with pytest.raises(UserError, match=part):
            check_policy_fits(other, env, 20.0)
    with pytest.raises(UserError, match="--set rate_hz=10"):
        check_policy_fits(policy(), env, 10.0)


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> StoredPolicy:
    """An untrained policy of the simulated robot, as if it came from a file."""
    policy = policy_for("mcsd/Nav-v0", {}, PolicyConfig(width=16, layers=1, head="binned"), 0)
    stored = StoredPolicy(policy, "mcsd/Nav-v0", {}, 10.0)
    monkeypatch.setattr("mcsd_agent.training.fine_tuning.load_stored_policy", lambda path: stored)
    return stored


def test_training_on_starts_from_the_network_the_words_and_the_weights_of_a_policy(stored):
    config = with_policy_of(TrainConfig("mcsd/Ros-v0", NAV, n_envs=1, start_from=Path("nav.mcsd")))
    assert config.policy == stored.policy.config
    model = build_learner(config)
    before = {k: v.clone() for k, v in model.sequence_policy.state_dict().items()}
    start_from(model, Path("nav.mcsd"))
    after = model.sequence_policy.state_dict()
    assert all(torch.equal(after[k], v) for k, v in stored.policy.state_dict().items())
    assert any(not torch.equal(after[k], v) for k, v in before.items())


def test_training_on_needs_the_same_words_and_bounds(stored, tmp_path):
    words = {**NAV, "instruction_words": ["go"]}
    with pytest.raises(UserError, match="other words"):
        start_from(build_learner(TrainConfig("mcsd/Ros-v0", words, n_envs=1, policy=stored.policy.config)), Path("x"))
    slow = yaml.safe_load(ROBOT.read_text())
    slow["action"]["high"] = [0.3, 1.0]
    (tmp_path / "slow.yaml").write_text(yaml.safe_dump(slow))
    kwargs = {"robot": str(tmp_path / "slow.yaml")}
    config = with_policy_of(TrainConfig("mcsd/Ros-v0", kwargs, n_envs=1, start_from=Path("x")))
    with pytest.raises(UserError, match="the environment takes"):
        start_from(build_learner(config), Path("x"))


@pytest.mark.slow
def test_policy_is_trained_from_a_bag_on_the_command_line(demos, tmp_path):
    bag, back, run = tmp_path / "bag", tmp_path / "back", tmp_path / "run"
    assert main(["convert", str(demos), "--robot", str(ROBOT), "--out", str(bag)]) == 0
    assert main(["convert", str(bag), "--robot", str(ROBOT), "--out", str(back)]) == 0
    changes = [f"demonstrations={back}", "imitation.updates=5", "policy.width=16"]
    options = [text for change in changes for text in ("--set", change)]
    assert main(["imitate", "configs/robot_demos.yaml", "--out", str(run), "--quiet", *options]) == 0
    assert main(["inspect", str(run / "policy.mcsd")]) == 0
