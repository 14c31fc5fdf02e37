"""Environments by name: options, vectorised forms, extras, and bad input."""

import importlib
import json

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecMonitor, VecNormalize

from mcsd_agent import SequencePPO
from mcsd_agent.errors import UserError
from mcsd_agent.spaces import spec_from_space
from mcsd_agent.strict import build, to_dict
from mcsd_agent.training.env_options import EnvOptions
from mcsd_agent.training.environments import make_env, make_vec, try_environment
from mcsd_agent.training.instructions import policy_specs

MEMORY = ("mcsd/RepeatPreviousEasy-v0", "mcsd/RepeatFirstEasy-v0", "mcsd/AutoencodeEasy-v0", "mcsd/PassiveTMaze50-v0")


def play(env: VecEnv, steps: int, high: int) -> list:
    """What `steps` random steps return, without wall-clock times."""
    random = np.random.default_rng(0)
    results = [env.reset()]
    for _ in range(steps):
        *arrays, infos = env.step(random.integers(high, size=env.num_envs))
        for info in infos:
            info.get("episode", {}).pop("t", None)
        results.append((*arrays, list(infos)))
    return results


def assert_same(first: list, second: list) -> None:
    for one, two in zip(first[1:], second[1:], strict=True):
        for a, b in zip(one[:3], two[:3], strict=True):
            np.testing.assert_array_equal(a, b)
        for a, b in zip(one[3], two[3], strict=True):
            np.testing.assert_array_equal(a.get("terminal_observation"), b.get("terminal_observation"))
            for name in ("episode", "is_success"):
                assert a.get(name) == b.get(name)
            assert a.get("TimeLimit.truncated", False) == b.get("TimeLimit.truncated", False)


# --------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "Acrobot-v1", "HalfCheetah-v5", "Humanoid-v5"])
def test_hidden_velocities_leave_fewer_entries(env_id):
    plain, hidden = make_env(env_id), make_env(env_id, options=EnvOptions(hide_velocity=True))
    assert hidden.observation_space.shape < plain.observation_space.shape
    assert hidden.observation_space.contains(hidden.reset(seed=0)[0])


def test_hidden_velocities_of_cartpole_are_those_of_the_registered_environment():
    a, b = make_env("CartPole-v1", options=EnvOptions(hide_velocity=True)), make_env("mcsd/CartPoleNoVel-v1")
    np.testing.assert_array_equal(a.reset(seed=1)[0], b.reset(seed=1)[0])
    assert a.observation_space == b.observation_space


def test_any_entries_can_be_kept():
    env = make_env("CartPole-v1", options=EnvOptions(keep=(3, 0)))
    assert env.reset(seed=0)[0].tolist() == make_env("CartPole-v1").reset(seed=0)[0][[3, 0]].tolist()


def test_a_time_limit_replaces_that_of_the_environment_and_counts_the_policys_steps():
    env = make_env("Pendulum-v1", options=EnvOptions(time_limit=300, frame_skip=2))
    env.reset(seed=0)
    ends = [env.step(env.action_space.sample())[3] for _ in range(300)]
    assert ends == [False] * 299 + [True]


def test_rewards_are_scaled_then_clipped_for_learning_and_reported_as_they_are():
    options = EnvOptions(reward_scale=0.5, clip_reward=0.4, time_limit=3)
    env = make_vec("CartPole-v1", None, options, n_envs=2, seed=0)
    env.reset()
    steps = [env.step([0, 1]) for _ in range(3)]
    assert all((s[1] == np.float32(0.4)).all() for s in steps)
    assert [info["episode"]["r"] for info in steps[-1][3]] == [3.0, 3.0]
    assert options.without_rewards() == EnvOptions(time_limit=3)


def test_frames_are_grey_and_of_the_asked_size():
    gymnasium.register("test/Pixels-v0", Pixels)
    try:
        options = EnvOptions(grayscale=True, resize=(16, 24), frame_skip=2)
        env = make_env("test/Pixels-v0", options=options)
        assert env.reset(seed=0)[0].shape == (16, 24, 1)
        assert spec_from_space(env.observation_space).is_image
        model = SequencePPO("CnnPolicy", make_vec("test/Pixels-v0", None, options, 2, 0), n_steps=8, n_epochs=1)
        model.learn(16)
    finally:
        del gymnasium.registry["test/Pixels-v0"]


class Pixels(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(0, 255, (40, 60, 3), np.uint8)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._frame(), {}

    def step(self, action):
        return self._frame(), 1.0, False, False, {}

    def _frame(self):
        return self.np_random.integers(256, size=(40, 60, 3), dtype=np.uint8)


def test_options_are_read_from_a_config_and_written_back():
    data = {"hide_velocity": True, "resize": [84, 96], "clip_reward": 1, "time_limit": 20}
    options = build(EnvOptions, data)
    assert options.resize == (84, 96)
    assert build(EnvOptions, json.loads(json.dumps(to_dict(options)))) == options


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"frame_skip": 0}, "frame_skip=0"),
        ({"resize": (4, 84)}, "[4, 84]"),
        ({"time_limit": 0}, "time_limit=0"),
        ({"reward_scale": 0.0}, "reward_scale=0.0"),
        ({"reward_scale": float("nan")}, "reward_scale=nan"),
        ({"clip_reward": -1.0}, "clip_reward=-1.0"),
        ({"keep": ()}, "keep=[]"),
        ({"keep": (1, 1)}, "keep=[1, 1]"),
        ({"keep": (0,), "hide_velocity": True}, "exclude each other"),
    ],
)
def test_impossible_options_are_refused_with_their_value(arguments, words):
    with pytest.raises(UserError) as error:
        EnvOptions(**arguments)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("env_id", "options", "words"),
    [
        ("FrozenLake-v1", EnvOptions(hide_velocity=True), "options.keep"),
        ("CartPole-v1", EnvOptions(keep=(0, 9)), "indices from 0 to 3"),
        ("FrozenLake-v1", EnvOptions(keep=(0,)), "vector observation"),
        ("CartPole-v1", EnvOptions(grayscale=True), "no image"),
        ("CartPole-v1", EnvOptions(resize=(8, 8)), "no image"),
    ],
)
def test_options_that_an_environment_does_not_allow_are_refused(env_id, options, words):
    with pytest.raises(UserError, match="options") as error:
        make_env(env_id, options=options)
    assert words in str(error.value)


# ------------------------------------------------------------------------------------------ vectorised


@pytest.mark.parametrize("env_id", MEMORY)
def test_batched_returns_what_single_environments_return(env_id):
    forms = [make_vec(env_id, n_envs=3, seed=11, vectorised=v) for v in ("sync", "batched")]
    first, second = (play(env, 230, 4) for env in forms)
    np.testing.assert_array_equal(first[0], second[0])
    assert_same(first, second)
    assert forms[0].observation_space == forms[1].observation_space
    assert forms[0].action_space == forms[1].action_space


def test_async_returns_what_sync_returns():
    sync = make_vec("MiniGrid-MemoryS7-v0", n_envs=2, seed=3)
    seen = play(sync, 20, 7)
    processes = make_vec("MiniGrid-MemoryS7-v0", n_envs=2, seed=3, vectorised="async")
    try:
        other = play(processes, 20, 7)
        assert processes.observation_space == sync.observation_space
    finally:
        processes.close()
    for one, two in zip(seen[1:], other[1:], strict=True):
        for name in one[0]:
            np.testing.assert_array_equal(one[0][name], two[0][name])
        np.testing.assert_array_equal(one[1], two[1].astype(np.float32))


@pytest.mark.parametrize("vectorised", ["sync", "batched"])
def test_every_environment_has_a_seed_of_its_own_and_the_same_again(vectorised):
    def begin(seed):
        return make_vec("mcsd/RepeatFirstEasy-v0", n_envs=16, seed=seed, vectorised=vectorised).reset().tolist()

    assert begin(0) == begin(0)
    assert begin(0)[1:] == begin(1)[:-1]
    assert len(set(begin(0))) > 1


@pytest.mark.parametrize("vectorised", ["sync", "batched"])
def test_episodes_are_reported_once(vectorised):
    env = make_vec("mcsd/RepeatFirstEasy-v0", n_envs=2, seed=0, vectorised=vectorised)
    assert env.env_is_wrapped(Monitor) == [True, True]
    reports = [info["episode"] for step in play(env, 102, 4)[1:] for info in step[3] if "episode" in info]
    assert [report["l"] for report in reports] == [51] * 4


def test_batched_works_with_wrappers_of_stable_baselines3():
    env = VecNormalize(VecMonitor(make_vec("mcsd/PassiveTMaze-v0", {"length": 5}, n_envs=4, vectorised="batched")),
                       norm_obs=False)  # fmt: skip
    SequencePPO("MlpPolicy", env, n_steps=12, n_epochs=1, policy_kwargs={"width": 16, "layers": 1}).learn(96)
    assert not env.has_attr("action_masks")


def test_batched_rewards_are_changed_for_learning_only():
    options = EnvOptions(reward_scale=51.0)
    env = make_vec("mcsd/RepeatFirstEasy-v0", None, options, n_envs=2, seed=0, vectorised="batched")
    steps = play(env, 51, 4)[1:]
    assert {abs(r) for s in steps for r in s[1].tolist()} == {1.0}
    assert all(abs(info["episode"]["r"]) < 1 for info in steps[-1][3])


def test_states_go_from_one_batch_to_another():
    first, second = (make_vec("mcsd/RepeatPreviousEasy-v0", n_envs=3, seed=s, vectorised="batched") for s in (0, 9))
    play(first, 30, 4)
    second.reset()
    for i, state in enumerate(first.env_method("get_state")):
        second.env_method("set_state", json.loads(json.dumps(state)), indices=i)
    for _ in range(80):
        one, two = first.step(np.array([0, 1, 2])), second.step(np.array([0, 1, 2]))
        for a, b in zip(one[:3], two[:3], strict=True):
            np.testing.assert_array_equal(a, b)
        assert [i.get("episode", {}).get("r") for i in one[3]] == [i.get("episode", {}).get("r") for i in two[3]]


def test_a_wrapper_comes_outermost():
    env = make_vec("CartPole-v1", n_envs=2, seed=0, wrapper=lambda e: gymnasium.wrappers.TimeLimit(e, 5))
    assert isinstance(env, DummyVecEnv)
    assert all(isinstance(e, gymnasium.wrappers.TimeLimit) for e in env.envs)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"env_id": "CartPole-v1", "vectorised": "batched"}, "choose 'sync'"),
        ({"env_id": "mcsd/PassiveTMaze-v0", "vectorised": "batched", "wrapper": lambda e: e}, "choose 'sync'"),
        (
            {"env_id": "mcsd/PassiveTMaze-v0", "vectorised": "batched", "options": EnvOptions(time_limit=3)},
            "reward options only",
        ),
        ({"env_id": "mcsd/PassiveTMaze-v0", "vectorised": "batched", "env_kwargs": {"length": 0}}, "length=0"),
        ({"env_id": "mcsd/PassiveTMaze-v0", "vectorised": "batched", "env_kwargs": {"lenght": 1}}, "lenght"),
        ({"env_id": "CartPole-v1", "vectorised": "threads"}, "threads"),
        ({"env_id": "CartPole-v1", "n_envs": 0}, "n_envs=0"),
        ({"env_id": "CartPol-v1"}, "did you mean"),
        ({"env_id": "mcsd/Nav-v9"}, "did you mean 'mcsd/Nav-v0'"),
        ({"env_id": "Games/Pong-v5"}, "nothing that is imported registers Games/; put the module that does before it"),
        ({"env_id": "mcsd/PassiveTMaze-v0", "env_kwargs": {"length": 0}, "vectorised": "async"}, "length=0"),
    ],
)
def test_what_cannot_be_vectorised_is_refused_in_one_line(arguments, words):
    with pytest.raises(UserError) as error:
        make_vec(**arguments)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


# ---------------------------------------------------------------------------------------------- extras


@pytest.mark.parametrize(
    "env_id",
    [
        "popgym-AutoencodeEasy-v0",
        "popgym-BattleshipEasy-v0",
        "popgym-ConcentrationEasy-v0",
        "popgym-NoisyPositionOnlyPendulumEasy-v0",
        "popgym:popgym-CountRecallEasy-v0",
        "MiniGrid-MemoryS7-v0",
        "minigrid:BabyAI-GoToLocal-v0",
    ],
)
def test_environments_of_extras_are_learnt_from(env_id):
    env = make_vec(env_id, n_envs=2, seed=0)
    specs, _ = policy_specs(env.observation_space)
    assert specs
    policy = "MultiInputPolicy" if isinstance(env.observation_space, gymnasium.spaces.Dict) else "MlpPolicy"
    SequencePPO(policy, env, n_steps=8, n_epochs=1, policy_kwargs={"width": 16, "layers": 1}).learn(16)


def test_environments_that_reuse_one_info_report_each_episode_once():
    env = make_vec("popgym-CountRecallEasy-v0", n_envs=1, seed=0)
    env.reset()
    ends = reports = 0
    for _ in range(120):
        _, _, dones, infos = env.step([0])
        ends += int(dones[0])
        reports += "episode" in infos[0]
    assert reports == ends > 0


@pytest.mark.parametrize(
    ("env_id", "package"), [("popgym-BattleshipEasy-v0", "popgym"), ("BabyAI-GoTo-v0", "minigrid")]
)
def test_a_missing_extra_is_named(env_id, package, monkeypatch):
    real = importlib.import_module

    def without(name, *arguments):
        if name == package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *arguments)

    monkeypatch.setattr("mcsd_agent.training.environments.importlib.import_module", without)
    with pytest.raises(UserError, match=rf"mcsd-agent\[{package}\]"):
        make_env(env_id)


def test_arguments_that_an_environment_refuses_are_named():
    with pytest.raises(UserError, match="length=0"):
        make_env("mcsd/PassiveTMaze-v0", {"length": 0})
    assert make_env("mcsd/PassiveTMaze-v0", {"length": 7}).unwrapped.length == 7


class Own(gymnasium.Env):
    """As somebody may write it, with one mistake, or none."""

    metadata = {"render_modes": [], "render_fps": 10}  # noqa: RUF012
    observation_space = spaces.Dict(
        {"position": spaces.Box(-1.0, 1.0, (3,), np.float32), "said": spaces.Text(5, min_length=0)}
    )
    action_space = spaces.Discrete(2)
    steps = 0

    def __init__(self, mistake: str = "") -> None:
        self.mistake = mistake
        if mistake == "it is real":
            self.metadata = {**self.metadata, "real_time": True}
        if mistake == "reset takes nothing":
            self.reset = lambda: self.observation(True)

    def observation(self, first: bool):
        name = "positions" if self.mistake == "a name" else "position"
        wrong = self.mistake == ("shape at reset" if first else "shape at step")
        return {name: np.zeros(2 if wrong else 3, np.float32), "said": ""}

    def reset(self, *, seed=None, options=None):
        assert self.mistake != "it is real"
        super().reset(seed=seed)
        return self.observation(True) if self.mistake == "reset as before" else (self.observation(True), {})

    def step(self, action):
        observation = self.observation(False)
        if self.mistake == "step as before":
            return observation, 0.0, False, {}
        return observation, 0.0, False, False, None if self.mistake == "no info" else {}


@pytest.fixture
def own():
    gymnasium.register("Own-v0", Own, max_episode_steps=20)
    yield "Own-v0"
    del gymnasium.registry["Own-v0"]


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ("reset takes nothing", r"Own-v0: reset\(\) must be reset\(\*, seed=None, options=None\)"),
        ("reset as before", r"Own-v0: reset returns dict; it must return \(observation, info\)"),
        (
            "step as before",
            r"Own-v0: step returns 4 values; it must return \(observation, reward, terminated, truncated",
        ),
        ("no info", "Own-v0: step returns NoneType as info"),
        ("shape at reset", r"reset returns 'position' as an array of shape \(2,\); its space has shape \(3,\)"),
        ("shape at step", r"step returns 'position' as an array of shape \(2,\); its space has shape \(3,\)"),
        ("a name", "reset returns an observation without 'position'"),
    ],
)
def test_a_mistake_in_an_environment_of_ones_own_is_named_in_one_line(own, mistake, words):
    with pytest.raises(UserError, match=words) as refused:
        try_environment(own, {"mistake": mistake})
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("mistake", ["", "it is real"])
def test_an_environment_that_keeps_to_the_interface_is_tried_and_a_real_one_is_not_moved(own, mistake):
    try_environment(own, {"mistake": mistake})


@pytest.mark.parametrize(
    "env_id",
    [
        "CartPole-v1",
        "mcsd/Nav-v0",
        "mcsd/PendulumNoVel-v1",
        "MiniGrid-MemoryS7-v0",
        "popgym-CountRecallEasy-v0",
        *MEMORY,
    ],
)
def test_environments_that_are_learnt_from_pass_their_trial(env_id):
    try_environment(env_id, {}, EnvOptions(previous_action=True, time_limit=30))
