"""Wrappers that change what is seen and how often: images, nested observations, held actions, positions."""

import warnings
from typing import ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st

from envs.babyai import BotExpert
from envs.flat_names import FlatNames, is_nested
from envs.frames import FrameSkip, ResizeImages
from envs.fresh_info import FreshInfo
from envs.grid_views import SymbolicView, is_symbolic
from envs.positions import POSITIONS, position_entries


class Shows(gymnasium.Env):
    """Shows samples of a space."""

    action_space = spaces.Discrete(2)

    def __init__(self, space):
        self.observation_space = space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 1.0, False, False, {}


def picture(height, width, channels=3):
    return spaces.Box(0, 255, (height, width, channels), np.uint8)


def checked(env):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*different from the unwrapped version.*")
        check_env(env, skip_render_check=True)


@given(
    st.tuples(st.integers(8, 40), st.integers(8, 40)),
    st.none() | st.tuples(st.integers(8, 24), st.integers(8, 24)),
    st.booleans(),
)
def test_images_are_always_uint8_height_width_channels(shape, size, grayscale):
    env = ResizeImages(Shows(picture(*shape)), size, grayscale)
    seen, _ = env.reset(seed=0)
    assert env.observation_space.contains(seen)
    assert seen.shape == (*(size or shape), 1 if grayscale else 3)
    assert seen.dtype == np.uint8


def test_only_the_images_of_a_dict_change():
    space = spaces.Dict({"eye": picture(20, 30), "speed": spaces.Box(-1, 1, (2,))})
    env = ResizeImages(Shows(space), (10, 12), grayscale=True)
    checked(env)
    assert env.observation_space["eye"].shape == (10, 12, 1)
    assert env.observation_space["speed"] == space["speed"]


def test_one_colour_stays_that_colour_when_an_image_shrinks():
    env = ResizeImages(Shows(picture(16, 16)), (8, 8))
    assert (env.observation(np.full((16, 16, 3), (7, 80, 200), np.uint8)) == (7, 80, 200)).all()
    grey = ResizeImages(Shows(picture(16, 16)), grayscale=True)
    assert (grey.observation(np.full((16, 16, 3), 90, np.uint8)) == 90).all()


@pytest.mark.parametrize("space", [spaces.Box(-1, 1, (3,)), picture(9, 9, 2)])
def test_what_cannot_be_made_grey_is_refused(space):
    with pytest.raises(ValueError, match="image"):
        ResizeImages(Shows(space), grayscale=True)


def test_held_actions_sum_rewards_and_stop_at_the_end():
    env = FrameSkip(gymnasium.wrappers.TimeLimit(Shows(spaces.Discrete(3)), 7), ticks=3)
    env.reset(seed=0)
    steps = [env.step(0) for _ in range(3)]
    assert [s[1] for s in steps] == [3.0, 3.0, 1.0]
    assert [s[3] for s in steps] == [False, False, True]


def test_holding_actions_lowers_the_rate():
    env = FrameSkip(gymnasium.make("CartPole-v1"), ticks=5)
    assert env.metadata["render_fps"] == gymnasium.make("CartPole-v1").metadata["render_fps"] / 5


NESTED = spaces.Dict(
    {
        "pose": spaces.Tuple((spaces.Box(-1, 1, (2,)), spaces.Discrete(3))),
        "arm": spaces.Dict({"angle": spaces.Box(0, 1, (1,))}),
        "gear": spaces.Discrete(5),
    }
)


def test_nested_observations_become_one_dict_with_the_same_values():
    env = FlatNames(Shows(NESTED))
    checked(env)
    assert set(env.observation_space.spaces) == {"pose.0", "pose.1", "arm.angle", "gear"}
    value = NESTED.sample()
    flat = env.observation(value)
    assert flat["pose.1"] == value["pose"][1]
    np.testing.assert_array_equal(flat["arm.angle"], value["arm"]["angle"])


def test_a_tuple_of_integers_becomes_one_vector():
    env = FlatNames(Shows(spaces.Tuple((spaces.Discrete(2), spaces.Discrete(4)))))
    checked(env)
    assert env.observation((1, 3)).tolist() == [1, 3]


def test_only_nested_spaces_count_as_nested():
    assert is_nested(NESTED)
    assert not is_nested(spaces.Dict({"a": spaces.Discrete(2)}))
    assert not is_nested(spaces.Box(0, 1, (2,)))


class OneInfo(Shows):
    shared: ClassVar[dict] = {}

    def step(self, action):
        return *super().step(action)[:4], self.shared


def test_what_is_written_into_an_info_is_gone_at_the_next_tick():
    env = FreshInfo(OneInfo(spaces.Discrete(2)))
    env.reset(seed=0)
    env.step(0)[4]["episode"] = "over"
    assert env.step(0)[4] == {}


@pytest.mark.parametrize("env_id", ["HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "Swimmer-v5", "InvertedPendulum-v5"])
def test_positions_of_a_simulated_robot_follow_from_how_its_observation_is_made_up(env_id):
    env = gymnasium.make(env_id)
    kept = position_entries(env)
    seen, _ = env.reset(seed=0)
    simulation = env.unwrapped.data
    np.testing.assert_allclose(seen[list(kept)], simulation.qpos[-len(kept) :])
    np.testing.assert_allclose(np.delete(seen, kept), np.clip(simulation.qvel, -10, 10))


def test_positions_in_the_table_do_not_move_when_only_velocities_change():
    for env_id, velocity in (("Reacher-v5", 2), ("InvertedDoublePendulum-v5", 3), ("Pusher-v5", 11)):
        env = gymnasium.make(env_id).unwrapped
        env.reset(seed=0)
        before = env._get_obs()
        env.data.qvel[:velocity] += 1.0
        changed = np.flatnonzero(before != env._get_obs())
        assert len(changed)
        assert not set(changed) & set(POSITIONS[env_id])


def test_nothing_is_claimed_about_unknown_or_changed_observations():
    assert position_entries(Shows(spaces.Box(-1, 1, (4,)))) is None
    stacked = gymnasium.wrappers.FlattenObservation(
        gymnasium.wrappers.FrameStackObservation(gymnasium.make("Hopper-v5"), 2)
    )
    assert position_entries(stacked) is None


def minigrid(env_id):
    import minigrid  # noqa: F401  (registers the ids)

    return gymnasium.make(env_id, disable_env_checker=True)


@pytest.mark.parametrize("env_id", ["MiniGrid-MemoryS7-v0", "BabyAI-GoToLocal-v0"])
def test_the_view_of_a_grid_world_says_the_same_in_a_row(env_id):
    env = SymbolicView(minigrid(env_id))
    checked(env)
    plain, _ = minigrid(env_id).reset(seed=3)
    seen, info = env.reset(seed=3)
    np.testing.assert_array_equal(seen["image"].reshape(7, 7, 3), plain["image"])
    assert seen["mission"] == info["instruction"] == plain["mission"]


def test_success_is_what_a_grid_world_pays_for_and_levels_say_nothing_on_stdout(capsys):
    env = SymbolicView(minigrid("BabyAI-GoToLocal-v0"))
    expert = BotExpert(env)
    for seed in range(3):
        observation, info = env.reset(seed=seed)
        expert.reset()
        terminated = False
        while not terminated:
            observation, reward, terminated, _, info = env.step(expert.act(observation))
            assert info["is_success"] == (reward > 0)
        assert info["is_success"]
        assert info["instruction_kind"] == "go to"
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("env_id", ["MiniGrid-MemoryS7-v0", "MiniGrid-GoToObject-8x8-N2-v0", "BabyAI-BossLevel-v0"])
def test_all_words_of_missions_are_known_beforehand(env_id, capsys):
    env = SymbolicView(minigrid(env_id))
    known = {word.strip(",") for text in env.unwrapped.instruction_words for word in text.split()}
    for seed in range(10):
        words = env.reset(seed=seed)[0]["mission"].replace(",", " ").split()
        assert set(words) <= known
        assert len(words) <= env.unwrapped.instruction_max_words


def test_pictures_of_a_grid_world_are_no_symbols():
    from minigrid.wrappers import RGBImgPartialObsWrapper

    env = RGBImgPartialObsWrapper(minigrid("MiniGrid-MemoryS7-v0"))
    assert not is_symbolic(env.observation_space)
    with pytest.raises(ValueError, match="MiniGrid"):
        SymbolicView(env)
