from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env

from mcsd_agent.errors import UserError
from mcsd_agent.spaces import BoxSpec, DiscreteSpec
from mcsd_agent.training.foresight import Foresight
from mcsd_agent.training.sequence_ppo import SequencePPO

SMALL = {"width": 16, "channels": 4, "layers": 1}


class Round(gymnasium.Env):
    """Eight places on a circle, walked left or right through an episode: one place does not tell which way."""

    observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.tick, self.place, self.way = 0, self.np_random.integers(8), self.np_random.choice([-1, 1])
        return self._seen(), {}

    def step(self, action):
        self.tick, self.place = self.tick + 1, self.place + self.way
        return self._seen(), 0.0, False, self.tick >= 20, {}

    def _seen(self) -> np.ndarray:
        angle = np.pi / 4 * self.place
        return np.array([np.cos(angle), np.sin(angle)], np.float32)


def walking(**kwargs) -> SequencePPO:
    env = make_vec_env(Round, 8, seed=0)
    return SequencePPO(
        "MlpPolicy", env, n_steps=40, n_epochs=10, learning_rate=5e-3, seed=0, policy_kwargs=SMALL, **kwargs
    )


def test_a_memory_learns_what_is_not_seen_where_there_is_no_reward():
    model = walking(prediction_coef=1.0).learn(20 * 320)
    assert model.logger.name_to_value["train/prediction_loss"] < 0.3  # 0.82 is what the same without a memory comes to


def test_what_an_episode_begins_with_is_nothing_to_foresee():
    torch.manual_seed(0)
    foresight = Foresight({"x": BoxSpec((3,))}, DiscreteSpec(2), 16)
    features, actions = torch.randn(2, 10, 16), torch.randint(2, (2, 10))
    seen, starts = torch.randn(2, 10, 3), torch.zeros(2, 10, dtype=torch.bool)
    starts[:, 6] = True
    elsewhere = seen.clone()
    elsewhere[:, 6:] += 100.0
    error = foresight(features, actions, {"x": seen}, starts)
    torch.testing.assert_close(foresight(features, actions, {"x": elsewhere}, starts), error, rtol=1e-3, atol=1e-3)
    without_starts = foresight(features, actions, {"x": elsewhere}, torch.zeros_like(starts))
    assert without_starts.item() != pytest.approx(error.item(), rel=0.01)
    assert foresight(features[:, :1], actions[:, :1], {"x": seen[:, :1]}, starts[:, :1]).item() == 0.0


def test_what_is_deployed_begins_and_looks_as_it_does_without():
    plain, foresees = walking(), walking(prediction_coef=1.0)
    for name, weights in foresees.sequence_policy.state_dict().items():
        torch.testing.assert_close(weights, plain.sequence_policy.state_dict()[name], rtol=0, atol=0)
    assert len(foresees.sequence_policy.state_dict()) == len(plain.sequence_policy.state_dict())


@pytest.mark.parametrize("env", ["Pendulum-v1", "CartPole-v1"])
def test_it_is_saved_with_the_rest(env, tmp_path):
    model = SequencePPO("MlpPolicy", env, n_steps=16, n_epochs=1, prediction_coef=0.5, seed=0, policy_kwargs=SMALL)
    model.learn(32).save(tmp_path / "model")
    loaded = SequencePPO.load(tmp_path / "model", env=gymnasium.make(env))
    model.policy.save(tmp_path / "policy.pt")
    for policy in (loaded.policy, type(model.policy).load(tmp_path / "policy.pt")):
        for name, weights in model.policy.state_dict().items():
            torch.testing.assert_close(policy.state_dict()[name], weights, rtol=0, atol=0)
    assert loaded.learn(32).num_timesteps == 32


def test_observations_without_a_vector_and_a_negative_weight_are_refused():
    with pytest.raises(UserError, match="prediction_coef needs a vector among the observations"):
        SequencePPO("MlpPolicy", "FrozenLake-v1", prediction_coef=1.0, policy_kwargs=SMALL)
    with pytest.raises(UserError, match=r"prediction_coef=-1\.0 must be at least 0"):
        SequencePPO("MlpPolicy", "CartPole-v1", prediction_coef=-1.0, policy_kwargs=SMALL)
