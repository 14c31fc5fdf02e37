"""One script, as people write it for sb3-contrib's RecurrentPPO, runs with SequencePPO by changing the class alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.callbacks import (
    CallbackList,
    CheckpointCallback,
    EvalCallback,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecNormalize

from mcsd_agent import SequencePPO

ALGORITHMS = [RecurrentPPO, SequencePPO]


def settings(**changes: Any) -> dict[str, Any]:
    """Arguments in the names and units of RecurrentPPO."""
    return {
        "n_steps": 32,
        "batch_size": 64,
        "n_epochs": 2,
        "learning_rate": lambda remaining: 3e-3 * remaining,
        "gamma": 0.98,
        "gae_lambda": 0.9,
        "clip_range": 0.2,
        "clip_range_vf": None,
        "normalize_advantage": True,
        "ent_coef": 0.001,
        "vf_coef": 0.5,
        "max_grad_norm": 0.5,
        "target_kl": None,
        "policy_kwargs": {"lstm_hidden_size": 32, "n_lstm_layers": 1},
        "device": "cpu",
        "seed": 1,
    } | changes


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_script_for_recurrent_ppo_runs_with_sequence_ppo(algorithm, tmp_path):
    env = VecNormalize(make_vec_env("CartPole-v1", n_envs=4, seed=0), gamma=0.98)
    eval_env = VecNormalize(make_vec_env("CartPole-v1", n_envs=2, seed=1), training=False, norm_reward=False)
    stop = StopTrainingOnRewardThreshold(reward_threshold=5.0, verbose=0)  # what any policy gets: it must end training
    evaluation = EvalCallback(
        eval_env,
        callback_on_new_best=stop,
        n_eval_episodes=4,
        eval_freq=64,
        best_model_save_path=str(tmp_path / "best"),
        log_path=str(tmp_path / "log"),
        verbose=0,
    )
    checkpoints = CheckpointCallback(save_freq=32, save_path=str(tmp_path / "checkpoints"), save_vecnormalize=True)

    model = algorithm("MlpLstmPolicy", env, tensorboard_log=str(tmp_path / "tb"), **settings())
    model.learn(100_000, callback=CallbackList([evaluation, checkpoints]), progress_bar=True)

    assert model.num_timesteps == 64 * 4, "training ends when the threshold is passed at the first evaluation"
    assert (tmp_path / "best" / "best_model.zip").is_file()
    assert len(np.load(tmp_path / "log" / "evaluations.npz")["timesteps"]) == 1
    assert list((tmp_path / "checkpoints").glob("rl_model_*_steps.zip"))
    assert list((tmp_path / "tb").glob("*_1/events.out.tfevents.*"))

    model.save(tmp_path / "model")
    env.save(str(tmp_path / "vecnormalize.pkl"))
    loaded_env = VecNormalize.load(str(tmp_path / "vecnormalize.pkl"), make_vec_env("CartPole-v1", n_envs=2, seed=5))
    loaded_env.training, loaded_env.norm_reward = False, False
    loaded = algorithm.load(tmp_path / "model", env=loaded_env)
    mean, deviation = evaluate_policy(loaded, loaded_env, n_eval_episodes=4, deterministic=True)
    assert 8.0 <= mean <= 500.0
    assert deviation >= 0.0
    best = algorithm.load(tmp_path / "best" / "best_model")
    loaded.set_parameters(best.get_parameters())

    returns, state = np.zeros(2), None
    episode_starts = np.ones(2, dtype=bool)
    observations = loaded_env.reset()
    for _ in range(30):
        actions, state = loaded.predict(observations, state=state, episode_start=episode_starts, deterministic=True)
        assert actions.shape == (2,)
        observations, rewards, episode_starts, _ = loaded_env.step(actions)
        returns += rewards
    assert returns.tolist() == [30.0, 30.0]

    loaded.learn(256, reset_num_timesteps=False)  # training goes on after loading
    assert loaded.num_timesteps == 64 * 4 + 256
    for each in (env, eval_env, loaded_env):
        each.close()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_loaded_model_acts_as_the_saved_one(algorithm, tmp_path):
    env = make_vec_env("CartPole-v1", n_envs=2, seed=0)
    model = algorithm("MlpLstmPolicy", env, **settings(learning_rate=1e-3)).learn(128)
    model.save(tmp_path / "model")
    loaded = algorithm.load(tmp_path / "model")
    states: list[Any] = [None, None]
    generator = np.random.default_rng(0)
    for step in range(10):
        observations = generator.normal(size=(2, 4)).astype(np.float32)
        starts = np.array([step == 0, step in (0, 6)])
        acted = []
        for i, each in enumerate((model, loaded)):
            actions, states[i] = each.predict(observations, states[i], starts, deterministic=True)
            acted.append(actions.tolist())
        assert acted[0] == acted[1]
    for a, b in zip(model.policy.parameters(), loaded.policy.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("env_id", ["Pendulum-v1", "mcsd/CartPoleNoVel-v1"])
def test_an_environment_by_its_id_is_enough(algorithm, env_id):
    model = algorithm("MlpLstmPolicy", env_id, **settings(n_steps=64)).learn(128)
    assert model.num_timesteps == 128
    observation = model.get_env().reset()[0]
    action, state = model.predict(observation)
    assert model.action_space.contains(action) or model.action_space.contains(int(action))
    assert state is not None


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_logged_names_are_the_same(algorithm):
    model = algorithm("MlpLstmPolicy", make_vec_env("CartPole-v1", n_envs=2, seed=0), **settings())
    model.learn(64, log_interval=1000)  # what the update recorded is still in the logger
    model.train()
    names = set(model.logger.name_to_value)
    assert names >= {
        "train/entropy_loss",
        "train/policy_gradient_loss",
        "train/value_loss",
        "train/approx_kl",
        "train/clip_fraction",
        "train/loss",
        "train/explained_variance",
        "train/clip_range",
        "train/learning_rate",
    }


@pytest.mark.parametrize(("critic_lstm", "shared"), [(True, False), (False, True)])
def test_policy_kwargs_of_the_zoo_are_understood(critic_lstm, shared):
    kwargs = {
        "ortho_init": False,
        "activation_fn": torch.nn.ReLU,
        "net_arch": {"pi": [64], "vf": [64]},
        "lstm_hidden_size": 16,
        "enable_critic_lstm": critic_lstm,
    }
    with pytest.warns(UserWarning, match="activation_fn, net_arch, ortho_init shape sb3-contrib's network"):
        model = SequencePPO("MlpLstmPolicy", make_vec_env("CartPole-v1", n_envs=2), n_steps=8, policy_kwargs=kwargs)
    assert model.policy.net.config.width == 16
    assert model.policy.net.config.share_backbone is shared
    assert (model.policy.critic is None) is shared
    model.learn(16)
