"""Environments give and take their state, and whether they do is found out by trial."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize

import envs  # noqa: F401 -- registers the namespace mcsd/
from mcsd_agent.training import plain_state
from mcsd_agent.training.environment_state import RestorableEnv, find_method


class Walk(gymnasium.Env):
    """A random walk; the subclasses keep its position in different places."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.ticks = 0
        self.begin(float(self.np_random.normal()))
        return np.array([self.where()]), {}

    def step(self, action):
        self.ticks += 1
        self.begin(self.where() + action + float(self.np_random.normal()))
        return np.array([self.where()]), self.where(), self.ticks >= 12, False, {"ticks": self.ticks}

    def begin(self, position):
        self.position = position

    def where(self):
        return self.position


class InAnObject(Walk):
    def __init__(self):
        self.body = SimpleNamespace(trail=deque(maxlen=3), at={"x": 0.0})

    def begin(self, position):
        self.body.at["x"] = position
        self.body.trail.append(position)

    def where(self):
        return self.body.at["x"] + 0.1 * sum(self.body.trail)


class InAView(Walk):
    """An array that is part of another one."""

    def __init__(self):
        self.table = np.zeros(4)
        self.cell = self.table[2:3]

    def begin(self, position):
        self.table[2] = position

    def where(self):
        return float(self.cell[0])


class WithOwnMethods(Walk):
    def begin(self, position):
        self.hidden = lambda: position

    def where(self):
        return self.hidden()

    def get_state(self):
        return {"position": self.where(), "ticks": self.ticks, "rng": self.np_random.bit_generator.state}

    def set_state(self, state):
        self.begin(state["position"])
        self.ticks = state["ticks"]
        self.np_random.bit_generator.state = state["rng"]


class InAClosure(Walk):
    """Not to be read, but it follows from the random generator and the actions."""

    def begin(self, position):
        self.hidden = lambda: position

    def where(self):
        return self.hidden()


class FromOutside(InAClosure):
    """Nothing in it says what comes next."""

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._np_random = np.random.default_rng()
        return np.array([self.where()]), {}


@pytest.mark.parametrize(
    ("cls", "method"),
    [
        (Walk, "state"),
        (InAnObject, "state"),
        (InAView, "state"),
        (WithOwnMethods, "state"),
        (InAClosure, "replay"),
        (FromOutside, None),
    ],
)
def test_the_method_that_works_is_found_and_none_where_none_does(cls, method):
    found = find_method(lambda: gymnasium.wrappers.TimeLimit(cls(), 10))
    assert found.method == method
    assert bool(found.reason) == (method is None)


@pytest.mark.parametrize(
    ("env_id", "method"),
    [
        ("mcsd/CartPoleNoVel-v1", "state"),
        ("mcsd/PendulumNoVel-v1", "state"),
        ("mcsd/MountainCarContinuousNoVel-v0", "state"),
        ("FrozenLake-v1", "state"),
        ("HalfCheetah-v5", "state"),
        ("Ant-v5", "state"),  # its reward reads what MuJoCo derived from the state before
        ("mcsd/Nav-v0", "replay"),
    ],
)
def test_shipped_and_well_known_environments_can_be_restored(env_id, method):
    assert find_method(lambda: gymnasium.make(env_id)).method == method


def test_the_trial_leaves_the_random_numbers_of_training_alone():
    np.random.seed(0)  # noqa: NPY002
    expected = np.random.random(2)[1]  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    np.random.random()  # noqa: NPY002
    find_method(lambda: gymnasium.make("CartPole-v1"))
    assert np.random.random() == expected  # noqa: NPY002


def make() -> gymnasium.Env:
    return Monitor(RestorableEnv(gymnasium.make("mcsd/CartPoleNoVel-v1"), "state"))


def assert_goes_on(first, second) -> None:
    for vec, steps in ((first, 30), (second, 3)):
        vec.reset()
        for _ in range(steps):
            vec.step(np.array([0, 1]))
    for index, state in enumerate(first.env_method("get_state")):
        second.env_method("set_state", state, indices=index)
    for _ in range(40):
        a, b = first.step(np.array([1, 0])), second.step(np.array([1, 0]))
        assert np.array_equal(a[0], b[0])
        assert np.array_equal(a[2], b[2])


def test_states_go_through_a_vectorised_environment():
    assert_goes_on(DummyVecEnv([make] * 2), DummyVecEnv([make] * 2))


@pytest.mark.slow
def test_states_go_from_processes_into_this_one_and_back():
    processes = SubprocVecEnv([make] * 2, start_method="spawn")
    assert_goes_on(processes, DummyVecEnv([make] * 2))
    assert_goes_on(DummyVecEnv([make] * 2), processes)
    processes.close()


def test_a_normaliser_around_the_environments_is_plain_state_too():
    def build() -> VecNormalize:
        return VecNormalize(DummyVecEnv([lambda: gymnasium.make("CartPole-v1")] * 2))

    first, second = build(), build()
    for vec, steps in ((first, 20), (second, 1)):
        vec.reset()
        for _ in range(steps):
            vec.step(np.array([0, 1]))
    plain_state.restore(second, plain_state.snapshot(first))
    assert np.array_equal(first.obs_rms.mean, second.obs_rms.mean)
    assert first.obs_rms.count == second.obs_rms.count
    assert first.ret_rms.var == second.ret_rms.var
    assert np.array_equal(first.returns, second.returns)


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**130), 2**130), st.floats(allow_nan=False), st.text(max_size=5)
)
plain = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(st.one_of(st.text(max_size=3), st.integers()), inner, max_size=4),
        st.lists(inner, max_size=4).map(lambda v: deque(v, maxlen=7)),
    ),
    max_leaves=12,
)


@given(plain)
def test_plain_values_come_back_as_they_were(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("plain") / "x.pt"
    torch.save(plain_state.encode(value), path)
    again = plain_state.decode(torch.load(path, weights_only=True))
    assert again == value
    assert type(again) is type(value)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "uint64", "float16", "float32", "float64", ">f4"])
@pytest.mark.parametrize("shape", [(), (3,), (0, 2), (10, 20)])
def test_arrays_come_back_bit_for_bit(dtype, shape):
    array = np.random.default_rng(0).integers(0, 2, shape).astype(dtype) / np.array(3 if "f" in dtype else 1, dtype)
    array = array.astype(dtype)
    again = plain_state.decode(plain_state.encode(array))
    assert again.dtype == array.dtype
    assert again.shape == array.shape
    assert again.tobytes() == array.tobytes()


def test_a_generator_shared_by_two_objects_stays_shared():
    def build() -> SimpleNamespace:
        rng = np.random.default_rng(3)
        return SimpleNamespace(rng=rng, part=SimpleNamespace(rng=rng))

    first, second = build(), build()
    first.rng.random(5)
    plain_state.restore(second, plain_state.snapshot(first))
    assert second.rng is second.part.rng
    assert second.rng.random() == first.rng.random()


@pytest.mark.parametrize("value", [lambda: 1, object(), np.array(["a"]), [print], {"x": object()}])
def test_what_is_not_plain_is_refused(value):
    with pytest.raises(plain_state.NotPlain):
        plain_state.encode(value)
