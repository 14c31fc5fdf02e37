from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecNormalize

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
        return np.array([np.nan if self.bad == "first observation" else 1.0], np.float32), {}

    def step(self, action):
        self.tick += 1
        when = {"observation": 3, "final observation": self.length}.get(self.bad)
        observation = np.array([np.nan if self.tick == when else 0.0], np.float32)
        reward = {"reward": np.nan, "huge reward": 3e38}.get(self.bad, 1.0) if self.tick == 3 else 1.0
        return observation, reward, False, self.tick >= self.length, {}


def collected(model: SequencePPO) -> SequencePPO:
    class Nothing(BaseCallback):
        def _on_step(self) -> bool:
            return True

    _, callback = model._setup_learn(10_000, Nothing())
    model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)
    return model


def collected_again(model: SequencePPO) -> SequencePPO:
    class Nothing(BaseCallback):
        def _on_step(self) -> bool:
            return True

    _, callback = model._setup_learn(10_000, Nothing(), reset_num_timesteps=False)
    model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)
    return model


@pytest.mark.parametrize("share_backbone", [True, False])
@pytest.mark.parametrize("backbone", ["mcsd", "gru", "lstm", "transformer", "ssm", "mingru", "none"])
def test_training_sees_the_log_probabilities_and_values_of_the_rollout(backbone, share_backbone):
    policy_kwargs = {**SMALL, "backbone": backbone, "share_backbone": share_backbone}
    assert_training_sees_the_rollout(
        collected(SequencePPO("MlpPolicy", cartpole(), n_steps=64, seed=0, policy_kwargs=policy_kwargs)), 2
    )


def test_a_rollout_cut_into_pieces_begins_each_with_the_state_before_it():
    model = collected(SequencePPO("MlpPolicy", cartpole(), n_steps=64, batch_size=16, seed=0, policy_kwargs=SMALL))
    assert len(model.rollout_buffer.states) == 4
    assert next(model.rollout_buffer.sequences(16)).actions.shape == (1, 16)
    assert_training_sees_the_rollout(model, 16)


def assert_training_sees_the_rollout(model: SequencePPO, n_minibatches: int) -> None:
    assert model.rollout_buffer.episode_starts[1:].any()  # episodes end inside the rollout
    for batch in model.rollout_buffer.sequences(n_minibatches):
        values, log_prob, *_ = model.policy.evaluate_sequences(
            batch.observations, batch.actions, batch.state, batch.episode_starts, batch.masks
        )
        torch.testing.assert_close(log_prob, batch.old_log_prob, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(values, batch.old_values, rtol=1e-4, atol=1e-5)


def test_the_second_rollout_begins_with_the_state_the_first_one_ended_with():
    model = collected(SequencePPO("MlpPolicy", cartpole(), n_steps=16, seed=0, policy_kwargs=SMALL))
    ended = model._last_state.clone()
    assert ended.abs().sum() > 0
    model = collected_again(model)
    batch = next(model.rollout_buffer.sequences(1))
    assert sorted(batch.state.flatten(1).sum(1).tolist()) == pytest.approx(sorted(ended.flatten(1).sum(1).tolist()))


def test_a_time_limit_adds_the_value_of_the_final_observation_in_its_own_state():
    env = make_vec_env(lambda: gymnasium.wrappers.TimeLimit(Countdown(10**9), 5), 1, seed=0)
    model = collected(SequencePPO("MlpPolicy", env, n_steps=5, gamma=0.9, seed=0, policy_kwargs=SMALL))
    observations = {"observation": torch.tensor([[[1.0], [0.0], [0.0], [0.0], [0.0], [0.0]]])}
    features, _ = model.policy.net.scan(observations, model.policy.net.initial_state(1))
    expected = 1.0 + 0.9 * model.policy.net.values(features)[0, -1].item()  # before the first update, no scale
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


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("observation", "observation at step 3"),
        ("reward", "reward at step 3"),
        ("first observation", "observation at its reset"),
        ("final observation", "observation at step 5"),
    ],
)
def test_a_nan_names_the_environment_and_stops_before_the_update(bad, words, normalised):
    env = make_vec_env(Countdown, 3, seed=0)
    env.envs[1].unwrapped.bad = bad
    if normalised:  # its statistics would hand a NaN on to all environments
        env = VecNormalize(env)
    model = SequencePPO("MlpPolicy", env, n_steps=8, policy_kwargs=SMALL, seed=0)
    before = [p.clone() for p in model.policy.parameters()]
    with pytest.raises(UserError, match=f"environment 1 gave a non-finite {words}"):
        model.learn(64)
    assert all(torch.equal(a, b) for a, b in zip(before, model.policy.parameters(), strict=True))


def test_training_goes_on_from_the_state_at_which_a_callback_ended_it():
    class End(BaseCallback):
        def _on_step(self) -> bool:
            return self.n_calls < 20

    class Watch(BaseCallback):
        def _on_step(self) -> bool:
            if self.n_calls == 1:
                self.before = self.locals["state"].clone()
            return True

    env = make_vec_env(lambda: Countdown(1000), 2, seed=0)
    model = SequencePPO("MlpPolicy", env, n_steps=64, policy_kwargs=SMALL, seed=0).learn(1000, End())
    state = None
    for observation in [1.0] + [0.0] * 18:  # what had been acted on before the step that ended training
        _, state = model.predict(np.full((2, 1), observation, np.float32), state)
    watch = Watch()
    model.learn(128, watch, reset_num_timesteps=False)
    torch.testing.assert_close(watch.before, torch.from_numpy(state))


def test_training_that_diverges_ends_before_it_spoils_the_weights():
    env = make_vec_env(lambda: Countdown(5, "huge reward"), 2, seed=0)
    model = SequencePPO("MlpPolicy", env, n_steps=8, policy_kwargs=SMALL, seed=0)
    with pytest.raises(UserError, match=r"the \w+ of an update is \w+: training diverged; use a lower learning_rate"):
        model.learn(64)
    assert all(torch.isfinite(p).all() for p in model.policy.net.backbone.parameters())


def test_an_observation_of_another_shape_is_one_clear_line():
    model = SequencePPO("MlpPolicy", cartpole(), policy_kwargs=SMALL)
    for shape in [(5,), (2, 5), (2, 2, 4)]:
        with pytest.raises(UserError, match=r"must be \(4,\), alone or in a batch"):
            model.predict(np.zeros(shape, np.float32))


def test_parameters_of_another_backbone_are_refused_in_one_line(tmp_path):
    SequencePPO("MlpPolicy", cartpole(), policy_kwargs=SMALL).save(tmp_path / "model")
    other = SequencePPO("MlpPolicy", cartpole(), policy_kwargs={**SMALL, "backbone": "gru"})
    with pytest.raises(UserError, match=r"of another policy than the config: it has no 'net\.backbone") as caught:
        other.set_parameters(tmp_path / "model")
    assert "\n" not in str(caught.value)


def test_lasting_noise_needs_a_continuous_head():
    with pytest.raises(UserError, match=r"noise_correlation=0\.5 needs head='gaussian' or 'squashed', not 'binned'"):
        SequencePPO("MlpPolicy", "Pendulum-v1", noise_correlation=0.5, policy_kwargs={**SMALL, "head": "binned"})


def test_minibatches_of_one_step_keep_weights_finite():
    model = SequencePPO("MlpPolicy", cartpole(), n_steps=4, batch_size=1, n_epochs=1, policy_kwargs=SMALL, seed=0)
    model.learn(16)
    assert all(torch.isfinite(p).all() for p in model.policy.parameters())


@pytest.mark.parametrize(
    ("observation", "action", "words"),
    [
        (None, spaces.Dict(a=spaces.Discrete(2)), "actions Dict.* are not supported; use Box, Discrete"),
        (None, spaces.Box(-np.inf, 1.0, (2,), np.float32), r"must have finite bounds; .*TransformAction\(env"),
        (None, spaces.Box(-1.0, 1.0, (2, 2), np.float32), r"shape \(2, 2\) are not supported; use one dimension"),
        (None, spaces.MultiDiscrete([2, 3], start=[1, 1]), "values from 0 on"),
        (spaces.MultiDiscrete([[2, 3], [2, 3]]), None, r"MultiDiscrete\(\[\[2 3\] \[2 3\]\]\) is not supported"),
        (spaces.Tuple([spaces.Discrete(2)]), None, "space Tuple is not supported"),
        (spaces.Sequence(spaces.Discrete(2)), None, "space Sequence is not supported"),
        (spaces.Dict(a=spaces.Dict(b=spaces.Discrete(2))), None, "space Dict is not supported"),
        (spaces.Box(0, 255, (3, 84, 84), np.uint8), None, "channels first; give it as height x width x channels"),
    ],
    ids=str,
)
def test_unsupported_spaces_are_one_clear_line(observation, action, words):
    env = Countdown()
    if observation is not None:
        env.observation_space = observation
    if action is not None:
        env.action_space = action
    with pytest.raises(UserError, match=words) as caught:
        SequencePPO("MultiInputPolicy", env)
    assert "\n" not in str(caught.value)


def test_what_recurrent_ppo_logs_for_its_settings_is_logged():
    env = make_vec_env("Pendulum-v1", 2, seed=0)
    model = SequencePPO("MlpPolicy", env, n_steps=16, clip_range_vf=lambda left: 0.3 * left, policy_kwargs=SMALL)
    model.learn(32, log_interval=1000)
    model.train()
    assert model.logger.name_to_value["train/clip_range_vf"] == pytest.approx(0.3 * model._current_progress_remaining)
    std = model.policy.net.head.log_std.exp().mean().item()
    assert model.logger.name_to_value["train/std"] == pytest.approx(std)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"n_minibatches": 3}, "n_minibatches=3 must divide the number of environments, which is 4"),
        ({"n_steps": 1}, "n_steps=1"),
        ({"n_steps": 32, "batch_size": 48}, "batch_size=48 must divide n_steps . n_envs = 32 . 4"),
        ({"batch_size": 128, "n_minibatches": 2}, "not both"),
        ({"gradient_accumulation_steps": 3}, "must divide the number of minibatches, which is 4"),
        ({"use_sde": True}, "use_sde=True is not supported"),
        ({"noise_correlation": 0.5}, "noise_correlation=0.5 needs Box actions"),
        ({"policy_kwargs": {"bakbone": "gru"}}, "did you mean 'backbone'"),
        ({"policy_kwargs": {"backbone": "grru"}}, "did you mean 'gru'"),
    ],
)
def test_bad_arguments_are_one_clear_line(arguments, words):
    with pytest.raises(UserError, match=words):
        SequencePPO("MlpPolicy", cartpole(), **arguments)


@pytest.mark.thorough
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


class OnlyTheAllowed(gymnasium.Env):
    """Each tick names the values that may be chosen; anything else is an error. The reward is the first choice."""

    observation_space = spaces.Box(0.0, 1.0, (5,), np.float32)

    def __init__(self, action_space: spaces.Space) -> None:
        self.action_space = action_space
        match action_space:
            case spaces.Discrete():
                self.sizes = [int(action_space.n)]
            case spaces.MultiDiscrete():
                self.sizes = action_space.nvec.tolist()
            case _:
                self.sizes = [2] * action_space.n

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.draw()
        return self.mask[:5].astype(np.float32), {}

    def draw(self):
        masks = [self.np_random.random(n) < 0.5 for n in self.sizes]
        for mask in masks:
            mask[self.np_random.integers(len(mask))] = True
        self.mask = np.concatenate(masks)

    def action_masks(self):
        return self.mask

    def step(self, action):
        choices, first = np.ravel(action), 0
        for choice, n in zip(choices, self.sizes, strict=True):
            assert self.mask[first + choice], "a masked action was taken"
            first += n
        self.draw()
        return self.mask[:5].astype(np.float32), float(choices[0]), self.np_random.random() < 0.1, False, {}


@pytest.mark.parametrize(
    "action_space", [spaces.Discrete(5), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(3)], ids=str
)
def test_masks_of_the_environment_are_obeyed_and_seen_in_training(action_space):
    env = make_vec_env(lambda: OnlyTheAllowed(action_space), 4, seed=0)
    model = collected(SequencePPO("MlpPolicy", env, n_steps=64, seed=0, policy_kwargs=SMALL))
    assert_training_sees_the_rollout(model, 2)
    model.learn(512)
    observation, mask = env.reset(), np.stack(env.env_method("action_masks"))
    for deterministic in (True, False):
        action, _ = model.predict(observation, deterministic=deterministic, action_masks=mask)
        assert all(mask[i, np.ravel(a)[0]] for i, a in enumerate(action))
    with pytest.raises(AssertionError, match="a masked action was taken"):
        model.learn(512, use_masking=False)
    entries = mask.shape[1]
    with pytest.raises(UserError, match=f"an action mask of {entries - 1} entries must have {entries}"):
        model.predict(observation, action_masks=mask[:, 1:])


@pytest.mark.thorough
@pytest.mark.parametrize("action_space", [spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(4)], ids=str)
def test_actions_of_several_choices_reach_the_robot_as_they_were_learnt(action_space, tmp_path):
    class Choosing(Countdown):
        def step(self, action):
            observation, _, *rest = super().step(action)
            return observation, float(action[0] == 1) - float(action[1] == 1), *rest

    Choosing.action_space = action_space
    env = make_vec_env(Choosing, 4, seed=0)
    model = SequencePPO("MlpPolicy", env, n_steps=32, learning_rate=1e-2, seed=0, policy_kwargs=SMALL).learn(2048)
    action, _ = model.predict(env.reset(), deterministic=True)
    assert action.shape == (4, *action_space.shape)
    assert (action[:, 0] == 1).all()
    assert (action[:, 1] != 1).all()
    model.export(tmp_path / "policy.mcsd", rate_hz=10)
    stream = Stream.load(tmp_path / "policy.mcsd")
    robots, _ = stream.step(np.ones(1, np.float32), stream.initial_state())
    np.testing.assert_array_equal(robots, action[0])


def test_squashed_actions_stay_inside_their_bounds_while_exploring():
    seen = []

    class Slider(Countdown):
        action_space = spaces.Box(-0.5, 2.0, (2,), np.float32)

        def step(self, action):
            seen.append(action)
            return super().step(action)

    env = make_vec_env(Slider, 4, seed=0)
    model = SequencePPO("MlpPolicy", env, n_steps=32, seed=0, policy_kwargs={**SMALL, "head": "squashed"})
    assert_training_sees_the_rollout(collected(model), 2)
    model.learn(256)
    assert np.min(seen) > -0.5
    assert np.max(seen) < 2.0


def test_accumulated_gradients_of_equal_minibatches_are_those_of_one_large_one():
    def weights(**minibatches) -> torch.Tensor:
        model = SequencePPO(
            "MlpPolicy", cartpole(), n_steps=32, n_epochs=1, normalize_advantage=False, seed=0,
            policy_kwargs=SMALL, **minibatches,
        ).learn(128)  # fmt: skip
        return torch.cat([p.flatten() for p in model.policy.parameters()])

    whole = weights(n_minibatches=1)
    torch.testing.assert_close(weights(n_minibatches=4, gradient_accumulation_steps=4), whole, rtol=1e-3, atol=1e-5)
    assert not torch.allclose(weights(n_minibatches=4), whole, rtol=1e-3, atol=1e-5)


def test_values_keep_their_meaning_when_the_scale_of_returns_moves():
    model = SequencePPO("MlpPolicy", cartpole(), n_steps=32, seed=0, policy_kwargs=SMALL).learn(128)
    observation = {"observation": torch.randn(3, 4)}
    before = model.policy.predict_values(observation, model.policy.initial_state(3), None)
    scale = model.policy.value_scale.deviation.clone()
    model.policy.value_scale.update(1000 * torch.randn(64), model.policy.value_layer)
    assert model.policy.value_scale.deviation > 10 * scale
    after = model.policy.predict_values(observation, model.policy.initial_state(3), None)
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)


def test_a_reward_of_other_units_is_learnt_alike():
    class Rescaled(gymnasium.RewardWrapper):
        def __init__(self, env, factor):
            super().__init__(env)
            self.factor = factor

        def reward(self, reward):
            return self.factor * reward

    def weights(factor: float) -> torch.Tensor:
        env = make_vec_env(lambda: Rescaled(gymnasium.make("CartPole-v1"), factor), 4, seed=0)
        model = SequencePPO("MlpPolicy", env, n_steps=32, n_minibatches=1, seed=0, policy_kwargs=SMALL)
        with torch.no_grad():
            model.policy.value_layer.weight.zero_()
        return torch.cat([p.flatten() for n, p in model.learn(512).policy.named_parameters() if "value" not in n])

    torch.testing.assert_close(weights(100.0), weights(1.0), rtol=1e-2, atol=5e-3)


def test_what_was_learnt_goes_on_from_a_resume_state(tmp_path):
    def model() -> SequencePPO:
        return SequencePPO("MlpPolicy", cartpole(), n_steps=32, seed=0, policy_kwargs=SMALL)

    first = model().learn(256)
    torch.save(first.resume_state(), tmp_path / "state.pt")
    again = model()
    again.set_resume_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert again.num_timesteps == 256
    np.testing.assert_array_equal(again._last_obs, first._last_obs)
    for a, b in zip(again.policy.state_dict().values(), first.policy.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    other = SequencePPO("MlpPolicy", cartpole(), n_steps=32, policy_kwargs={**SMALL, "backbone": "gru"})
    with pytest.raises(UserError, match="of another policy"):
        other.set_resume_state(first.resume_state())


def test_a_critic_of_its_own_is_not_deployed():
    shared = SequencePPO("MlpPolicy", cartpole(), policy_kwargs=SMALL)
    own = SequencePPO("MlpPolicy", cartpole(), policy_kwargs={**SMALL, "share_backbone": False})
    sizes = [sum(p.numel() for p in m.sequence_policy.parameters()) for m in (shared, own)]
    assert sizes[0] == sizes[1]
    assert sum(p.numel() for p in own.policy.parameters()) > 1.5 * sizes[1]
    _, state = own.predict(np.zeros((4, 4), np.float32))
    assert state.shape == (4, *own.sequence_policy.state_shape)


def test_a_state_of_another_number_of_environments_is_refused():
    model = SequencePPO("MlpPolicy", cartpole(), policy_kwargs=SMALL)
    _, state = model.predict(np.zeros((4, 4), np.float32))
    with pytest.raises(UserError, match="or None to begin anew"):
        model.predict(np.zeros((3, 4), np.float32), state)


def test_exploration_noise_lasts_within_an_episode_and_keeps_its_size():
    env = make_vec_env("Pendulum-v1", 64, seed=0)
    model = SequencePPO("MlpPolicy", env, n_steps=4, noise_correlation=0.9, seed=0, policy_kwargs=SMALL)
    none, some = np.zeros(64, bool), np.arange(64) < 32
    for _ in range(50):
        before = model._next_noise(none)
    after = model._next_noise(some)
    assert torch.corrcoef(torch.stack([before[32:, 0], after[32:, 0]]))[0, 1] > 0.6
    assert torch.corrcoef(torch.stack([before[:32, 0], after[:32, 0]]))[0, 1] < 0.5
    sizes = torch.stack([model._next_noise(none) for _ in range(500)])
    assert sizes.std().item() == pytest.approx(1.0, abs=0.1)
    assert_values_and_log_probabilities(collected(model))


def assert_values_and_log_probabilities(model: SequencePPO) -> None:
    for batch in model.rollout_buffer.sequences(2):
        _, log_prob, *_ = model.policy.evaluate_sequences(
            batch.observations, batch.actions, batch.state, batch.episode_starts
        )
        torch.testing.assert_close(log_prob, batch.old_log_prob, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("device", ["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
def test_a_tick_of_exploration_uses_the_weights_of_the_moment(device):
    model = SequencePPO("MlpPolicy", cartpole(), n_steps=64, batch_size=16, seed=0, device=device, policy_kwargs=SMALL)
    model.learn(512)
    collected_again(model)
    for batch in model.rollout_buffer.sequences(16):
        values, log_prob, *_ = model.policy.evaluate_sequences(
            batch.observations, batch.actions, batch.state, batch.episode_starts
        )
        torch.testing.assert_close(log_prob, batch.old_log_prob, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(values, batch.old_values, rtol=1e-3, atol=1e-3)


def test_actions_without_bounds_are_learnt_with_the_wrapper_that_the_refusal_names():
    env = Countdown()
    env.action_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    with pytest.raises(UserError, match="wrap the environment: ") as refused:
        SequencePPO("MlpPolicy", env, policy_kwargs=SMALL)
    said = str(refused.value).split("wrap the environment: ")[1].split(", with bounds")[0]
    model = SequencePPO("MlpPolicy", eval(said), n_steps=16, n_epochs=1, policy_kwargs=SMALL).learn(16)
    assert model.num_timesteps == 16


@pytest.mark.parametrize("kwargs", [{}, {"share_backbone": False}, {"backbone": "gru"}])
def test_a_policy_saved_alone_acts_as_before(kwargs, tmp_path):
    policy = SequencePPO("MlpPolicy", cartpole(), policy_kwargs={**SMALL, **kwargs}, seed=0).policy
    policy.save(tmp_path / "policy.pt")
    loaded = type(policy).load(tmp_path / "policy.pt")
    states = [None, None]
    for observation in np.random.default_rng(0).normal(size=(5, 3, 4)).astype(np.float32):
        (a, states[0]), (b, states[1]) = (
            p.predict(observation, s, deterministic=True) for p, s in zip((policy, loaded), states, strict=True)
        )
        assert np.array_equal(a, b)
        assert np.array_equal(*states)


def test_export_refuses_observations_that_the_artifact_would_not_be_given(tmp_path):
    model = SequencePPO("MlpPolicy", VecNormalize(cartpole(2)), n_steps=16, policy_kwargs=SMALL)
    with pytest.raises(UserError, match=r"would lack its statistics .* VecNormalize\(norm_obs=False\)"):
        model.export(tmp_path / "policy.mcsd")
    assert not list(tmp_path.iterdir())
    model = SequencePPO("MlpPolicy", VecNormalize(cartpole(2), norm_obs=False), n_steps=16, policy_kwargs=SMALL)
    model.export(tmp_path / "policy.mcsd")
    assert read_package(tmp_path / "policy.mcsd").spec.rate_hz == 50.0
