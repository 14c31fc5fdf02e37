from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from mcsd_agent.errors import UserError
from mcsd_agent.runtime import Stream, read_package
from mcsd_agent.training.sequence_ppo import SequencePPO

SMALL = {"width": 16, "channels": 4, "layers": 1}


def cartpole(n_envs: int = 4, **kwargs):
    return make_vec_env("CartPole-v1", n_envs, seed=0, **kwargs)


class Countdown(gymnasium.Env):
    """Says 1 at the first tick and 0 afterwards; the reward counts ticks; a time limit truncates after `length`."""

    observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, length: int = 5, bad: str = "") -> None:
        self.length, self.bad = length, bad

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.tick = 0
        return np.array([1.0], np.float32), {}

    def step(self, action):
        self.tick += 1
        observation = np.array([np.nan if self.bad == "observation" and self.tick == 3 else 0.0], np.float32)
        reward = np.nan if self.bad == "reward" and self.tick == 3 else 1.0
        return observation, reward, False, self.tick >= self.length, {}


def collected(model: SequencePPO) -> SequencePPO:
    class Nothing(BaseCallback):
        def _on_step(self) -> bool:
            return True

    _, callback = model._setup_learn(10_000, Nothing())
    model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)
    return model


@pytest.mark.parametrize("backbone", ["mcsd", "gru", "lstm", "transformer", "ssm", "mingru", "none"])
def test_training_sees_the_log_probabilities_and_values_of_the_rollout(backbone):
    model = collected(
        SequencePPO("MlpPolicy", cartpole(), n_steps=64, seed=0, policy_kwargs={**SMALL, "backbone": backbone})
    )
    assert model.rollout_buffer.episode_starts[1:].any()  # episodes end inside the rollout
    for batch in model.rollout_buffer.sequences(2):
        values, log_prob, _ = model.policy.evaluate_sequences(
            batch.observations, batch.actions, batch.state, batch.episode_starts
        )
        torch.testing.assert_close(log_prob, batch.old_log_prob, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(values, batch.old_values, rtol=1e-4, atol=1e-5)


def test_the_second_rollout_begins_with_the_state_the_first_one_ended_with():
    model = collected(SequencePPO("MlpPolicy", cartpole(), n_steps=16, seed=0, policy_kwargs=SMALL))
    ended = model._last_state.clone()
    assert ended.abs().sum() > 0
    model.rollout_buffer.begin(model._last_state)
    batch = next(model.rollout_buffer.sequences(1)) if model.rollout_buffer.full else None
    assert batch is not None
    assert sorted(batch.state.flatten(1).sum(1).tolist()) == pytest.approx(sorted(ended.flatten(1).sum(1).tolist()))


def test_a_time_limit_adds_the_value_of_the_final_observation_in_its_own_state():
    env = make_vec_env(lambda: gymnasium.wrappers.TimeLimit(Countdown(10**9), 5), 1, seed=0)
    model = collected(SequencePPO("MlpPolicy", env, n_steps=5, gamma=0.9, seed=0, policy_kwargs=SMALL))
    observations = {"observation": torch.tensor([[[1.0], [0.0], [0.0], [0.0], [0.0], [0.0]]])}
    features, _ = model.policy.net.scan(observations, model.policy.net.initial_state(1))
    expected = 1.0 + 0.9 * model.policy.net.values(features)[0, -1].item()
    assert model.rollout_buffer.rewards[4, 0] == pytest.approx(expected, rel=1e-5)
    assert model.rollout_buffer.rewards[:4, 0] == pytest.approx(1.0)


def test_predict_with_state_repeats_the_rollout_and_restarts_where_an_episode_starts():
    model = SequencePPO("MlpPolicy", cartpole(), seed=0, policy_kwargs=SMALL)
    observation = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    first, state = model.predict(observation, deterministic=True)
    _, moved = model.predict(observation, state, np.zeros(3, bool), deterministic=True)
    _, restarted = model.predict(observation, moved, np.array([True, False, True]), deterministic=True)
    assert first.shape == (3,)
    np.testing.assert_allclose(restarted[0], state[0], atol=1e-6)
    assert not np.allclose(restarted[1], state[1], atol=1e-4)
    single, _ = model.predict(observation[0], deterministic=True)
    assert single == first[0]


def test_save_and_load_keep_every_action(tmp_path):
    model = SequencePPO("MlpPolicy", cartpole(), n_steps=32, seed=0, policy_kwargs=SMALL).learn(256)
    model.save(tmp_path / "model")
    again = SequencePPO.load(tmp_path / "model", env=cartpole())
    observation = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    np.testing.assert_array_equal(again.predict(observation)[1], model.predict(observation)[1])
    again.learn(256)
    assert evaluate_policy(again, cartpole(2), n_eval_episodes=4)[0] > 0


def test_two_runs_of_one_seed_are_equal_and_of_two_seeds_are_not():
    def weights(seed: int) -> torch.Tensor:
        env = make_vec_env("CartPole-v1", 4, seed=seed)
        model = SequencePPO("MlpPolicy", env, n_steps=32, seed=seed, policy_kwargs=SMALL).learn(512)
        return torch.cat([p.flatten() for p in model.policy.parameters()])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_learns_to_balance_a_pole():
    model = SequencePPO(
        "MlpPolicy",
        cartpole(8),
        n_steps=128,
        n_epochs=4,
        learning_rate=lambda remaining: 1.5e-3 * remaining,
        seed=0,
        policy_kwargs={"width": 32, "layers": 1},
    )
    before = evaluate_policy(model, cartpole(4), n_eval_episodes=8)[0]
    model.learn(25_000)
    after = evaluate_policy(model, cartpole(4), n_eval_episodes=8)[0]
    assert before < 60
    assert after > 120  # four seeds reached 170 to 480


def test_images_text_and_boxes_in_one_dict_train():
    class Everything(gymnasium.Env):
        observation_space = spaces.Dict(
            {
                "camera": spaces.Box(0, 255, (8, 8, 3), np.uint8),
                "speed": spaces.Box(-np.inf, np.inf, (2,), np.float32),
                "gear": spaces.Discrete(3),
                "instruction": spaces.Text(20),
            }
        )
        action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return self.observation(), {}

        def observation(self):
            rng = self.np_random
            text = "go left" if rng.random() < 0.5 else "go right"
            camera = rng.integers(0, 256, (8, 8, 3), np.uint8)
            return {"camera": camera, "speed": rng.normal(size=2).astype(np.float32), "gear": 1, "instruction": text}

        def step(self, action):
            return self.observation(), float(action[0]), self.np_random.random() < 0.1, False, {}

    model = SequencePPO("MultiInputPolicy", Everything(), n_steps=32, policy_kwargs=SMALL, seed=0).learn(64)
    assert model.policy.net.vocabulary.words == ("go", "left", "right")
    action, _ = model.predict(Everything().reset(seed=0)[0])
    assert action.shape == (2,)


@pytest.mark.parametrize("bad", ["observation", "reward"])
def test_a_nan_names_the_environment_and_stops_before_the_update(bad):
    env = make_vec_env(lambda: Countdown(5, bad), 2, seed=0)
    model = SequencePPO("MlpPolicy", env, n_steps=8, policy_kwargs=SMALL, seed=0)
    before = [p.clone() for p in model.policy.parameters()]
    with pytest.raises(UserError, match=f"environment 0 gave a non-finite {bad} at step 3"):
        model.learn(64)
    assert all(torch.equal(a, b) for a, b in zip(before, model.policy.parameters(), strict=True))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"n_minibatches": 3}, "n_minibatches=3 must divide the number of environments, which is 4"),
        ({"n_steps": 1}, "n_steps=1"),
        ({"policy_kwargs": {"bakbone": "gru"}}, "did you mean 'backbone'"),
        ({"policy_kwargs": {"backbone": "grru"}}, "did you mean 'gru'"),
    ],
)
def test_bad_arguments_are_one_clear_line(arguments, words):
    with pytest.raises(UserError, match=words):
        SequencePPO("MlpPolicy", cartpole(), **arguments)


def test_export_knows_the_environment_and_its_rate(tmp_path):
    model = SequencePPO("MultiInputPolicy", "mcsd/Nav-v0", n_steps=4, seed=0, policy_kwargs=SMALL).learn(4)
    model.export(tmp_path / "nav.mcsd")
    spec = read_package(tmp_path / "nav.mcsd").spec
    assert spec.rate_hz == 10.0
    assert spec.metadata["env"] == "mcsd/Nav-v0"
    assert spec.metadata["env_kwargs"] == {}
    action, _ = Stream.load(tmp_path / "nav.mcsd").step(
        gymnasium.make("mcsd/Nav-v0").reset(seed=0)[0], np.zeros(spec.state_shape, np.float32)
    )
    assert action.shape == (2,)
