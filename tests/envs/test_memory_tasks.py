"""The memory tasks: what they reward, and that memory is what they ask for."""

import json
import warnings

import gymnasium
import numpy as np
import popgym
import pytest
from gymnasium.utils.env_checker import check_env

import envs  # noqa: F401  (registers the ids)
from envs.card_games import NOTHING_DUE, CardGameEnv, make_game
from envs.passive_tmaze import DOWN, GOAL_UP, LEFT, RIGHT, UP, PassiveTMaze

CARD_GAMES = [
    f"{game}{level}" for game in ("RepeatPrevious", "RepeatFirst", "Autoencode") for level in ("Easy", "Medium", "Hard")
]
ALL = [f"mcsd/{name}-v0" for name in (*CARD_GAMES, "PassiveTMaze", "PassiveTMaze50", "PassiveTMaze500")]


class Remembers:
    """Acts on a full record of what it has seen in the episode."""

    def __init__(self, env):
        self.task = env.unwrapped
        self.seen = []

    def act(self, observation):
        self.seen.append(observation)
        if isinstance(self.task, PassiveTMaze):
            if len(self.seen) <= self.task.length:
                return RIGHT
            return UP if self.seen[0] == GOAL_UP else DOWN
        game, now = self.task.game, len(self.seen)
        if type(game).__name__ == "RepeatPrevious":
            return self.seen[max(0, now - game.k)]
        if type(game).__name__ == "RepeatFirst":
            return self.seen[0]
        cards = [int(card[1]) for card in self.seen[: game.cards]]
        return 0 if now < game.cards else cards[::-1][now - game.cards]


def episode(env, act, seed=0):
    observation, _ = env.reset(seed=seed)
    rewards, ends = [], (False, False)
    while not any(ends):
        observation, reward, *ends, info = env.step(act(observation))
        rewards.append(reward)
    return np.array(rewards), info


@pytest.mark.parametrize("env_id", ALL)
def test_checker_has_no_complaint(env_id):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gymnasium.make(env_id, render_mode="rgb_array", disable_env_checker=True).unwrapped)


@pytest.mark.parametrize("env_id", ALL)
def test_perfect_memory_earns_a_return_of_1(env_id):
    env = gymnasium.make(env_id, disable_env_checker=True)
    for seed in range(3):
        rewards, _ = episode(env, Remembers(env).act, seed)
        assert rewards.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("env_id", ALL)
def test_guessing_earns_what_chance_says(env_id):
    env = gymnasium.make(env_id, disable_env_checker=True)
    random = np.random.default_rng(0)
    returns = [episode(env, lambda _: int(random.integers(4)), seed)[0].sum() for seed in range(20)]
    if "TMaze" in env_id:
        assert np.mean(returns) < -0.8  # behind from the first steps on
    else:
        assert np.mean(returns) == pytest.approx(-0.5, abs=0.07)  # a quarter is right


@pytest.mark.parametrize("name", CARD_GAMES)
@pytest.mark.parametrize("seed", range(2))
def test_a_game_is_that_of_popgym_tick_by_tick(name, seed):
    theirs = gymnasium.make(f"popgym-{name}-v0", disable_env_checker=True).unwrapped
    assert isinstance(theirs, popgym.core.env.POPGymEnv)
    random = np.random.default_rng(seed)
    first, _ = theirs.reset(seed=seed)
    actions, results = [], []
    while not results or not results[-1][2]:
        actions.append(int(random.integers(4)))
        results.append(theirs.step(actions[-1]))
    ours = gymnasium.make(f"mcsd/{name}-v0", disable_env_checker=True).unwrapped
    ours.reset(seed=0)
    # every card is shown, so that theirs can be dealt here
    shown = np.array([first, *(result[0] for result in results)])
    suits = (shown if shown.ndim == 1 else shown[:, 1])[: ours.game.cards]
    ours.set_state({**ours.get_state(), "suits": suits.tolist()})
    np.testing.assert_array_equal(ours._shown[0], first)
    for action, expected in zip(actions, results, strict=True):
        seen, reward, ended, truncated, _ = ours.step(action)
        np.testing.assert_array_equal(seen, expected[0])
        assert reward == pytest.approx(expected[1])
        assert (ended, truncated) == expected[2:4]


def test_repeat_previous_counts_k_from_the_card_on_show():
    game = make_game("repeat_previous", 1, 3)
    suits = np.arange(52) % 4
    shown, due = game.script(suits)
    assert (due[:2] == NOTHING_DUE).all()
    assert all(due[t] == shown[t - 2] for t in range(2, game.ticks))
    assert (due != NOTHING_DUE).sum() == game.answers


@pytest.mark.parametrize("name", CARD_GAMES)
def test_the_best_and_the_worst_return_are_1_and_minus_1(name):
    game = gymnasium.make(f"mcsd/{name}-v0", disable_env_checker=True).unwrapped.game
    _, due = game.script(game.shuffle(np.random.default_rng(0)))
    assert len(due) == game.ticks
    assert (due != NOTHING_DUE).sum() == game.answers


def test_every_suit_is_in_the_deck_as_often_and_in_another_order_each_episode():
    env = CardGameEnv("repeat_first", decks=2)
    env.reset(seed=0)
    first = env.get_state()["suits"]
    env.reset()
    assert np.bincount(first).tolist() == [26] * 4
    assert first != env.get_state()["suits"]


@pytest.mark.parametrize("arguments", [{"game": "chess", "decks": 1}, {"game": "repeat_first", "decks": 0}])
def test_impossible_games_are_refused(arguments):
    with pytest.raises(ValueError, match=r"game=|decks="):
        CardGameEnv(**arguments)


@pytest.mark.parametrize("k", [0, 52])
def test_k_beyond_the_deck_is_refused(k):
    with pytest.raises(ValueError, match="k="):
        CardGameEnv("repeat_previous", decks=1, k=k)


def test_the_maze_shows_the_side_once_and_the_junction_by_a_sign_of_its_own():
    env = PassiveTMaze(length=4)
    sign, _ = env.reset(seed=1)
    seen = [sign, *(env.step(RIGHT)[0] for _ in range(4))]
    assert seen[0] in (2, 3)
    assert seen[1:] == [0, 0, 0, 1]


def test_staying_behind_costs_1_over_length_per_step_and_the_goal():
    env = PassiveTMaze(length=5)
    rewards, info = episode(env, lambda _: UP)
    assert rewards.tolist() == [-0.2] * 5 + [0.0]
    assert info == {"is_success": False}


def test_one_wrong_step_costs_all_steps_after_it():
    env = PassiveTMaze(length=5)
    actions = iter([RIGHT, RIGHT, LEFT, RIGHT, RIGHT, UP])
    rewards, _ = episode(env, lambda _: next(actions))
    assert rewards.tolist() == [0.0, 0.0, -0.2, -0.2, -0.2, 0.0]


def test_walking_on_and_guessing_gets_half():
    env = PassiveTMaze(length=3)
    returns = [episode(env, lambda seen: UP if seen == 1 else RIGHT, seed)[0].sum() for seed in range(200)]
    assert set(returns) == {0.0, 1.0}
    assert np.mean(returns) == pytest.approx(0.5, abs=0.12)


def test_corridors_of_many_lengths_end_at_their_own_junction():
    env = PassiveTMaze(length=40, shortest=2)
    ticks = [len(episode(env, lambda seen: UP if seen == 1 else RIGHT, seed)[0]) for seed in range(300)]
    assert min(ticks) == 2 + 1
    assert 35 < max(ticks) <= 40 + 1
    assert np.median(ticks) == pytest.approx(np.sqrt(2 * 41), abs=3)  # its logarithm is uniform


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"length": 0}, "length=0"), ({"length": 5, "shortest": 6}, "shortest=6"), ({"shortest": 0}, "shortest=0")],
)
def test_impossible_lengths_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        PassiveTMaze(**arguments)


@pytest.mark.parametrize("env_id", ["mcsd/AutoencodeEasy-v0", "mcsd/RepeatPreviousEasy-v0", "mcsd/PassiveTMaze50-v0"])
def test_a_state_of_plain_values_brings_back_this_episode_and_those_after_it(env_id):
    env, other = (gymnasium.make(env_id, disable_env_checker=True).unwrapped for _ in range(2))
    env.reset(seed=4)
    random = np.random.default_rng(0)
    for _ in range(20):
        env.step(int(random.integers(4)))
    state = json.loads(json.dumps(env.get_state()))
    other.reset(seed=9)
    other.set_state(state)
    for _ in range(300):
        action = int(random.integers(4))
        one, two = env.step(action), other.step(action)
        np.testing.assert_array_equal(one[0], two[0])
        assert one[1:] == two[1:]
        if one[2]:
            np.testing.assert_array_equal(env.reset()[0], other.reset()[0])
