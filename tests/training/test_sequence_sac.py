from __future__ import annotations

import copy
import io

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecNormalize

from mcsd_agent.errors import UserError
from mcsd_agent.runtime import Stream, read_package
from mcsd_agent.training.sequence_replay import SequenceReplay
from mcsd_agent.training.sequence_sac import SequenceSAC
from mcsd_agent.training.soft_update import SoftUpdate, n_step_targets

SMALL = {"width": 16, "channels": 4, "layers": 1}
QUICK = {
    "policy_kwargs": SMALL,
    "learning_starts": 20,
    "batch_size": 4,
    "sequence_length": 8,
    "burn_in": 4,
    "buffer_size": 2000,
    "train_freq": 4,
    "device": "cpu",
    "seed": 0,
}


class Counter(gymnasium.Env):
    """The observation and the reward are the tick; ends by termination or by truncation after `length` ticks."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = spaces.Box(np.array([0.0, -4.0], np.float32), np.array([1.0, 2.0], np.float32))

    def __init__(self, length: int = 6, terminates: bool = False, bad: str = "", space: spaces.Space | None = None):
        self.length, self.terminates, self.bad = length, terminates, bad
        if space is not None:
            self.action_space = space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.tick = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.tick += 1
        ends = self.tick >= self.length
        bad = {"observation": 3, "final observation": self.length, "reward": 3}.get(self.bad) == self.tick
        observation = np.array([np.nan if bad and "observation" in self.bad else self.tick], np.float32)
        reward = np.nan if bad and self.bad == "reward" else float(self.tick)
        return observation, reward, ends and self.terminates, ends and not self.terminates, {}


class Remember(gymnasium.Env):
    """A number is shown at the first of six ticks; the reward is how close the last action comes to it."""

    observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.tick, self.number = 0, float(self.np_random.choice([-0.7, 0.7]))
        return np.array([self.number, 0.0], np.float32), {}

    def step(self, action):
        self.tick += 1
        last = self.tick == 6
        reward = 1.0 - abs(float(action[0]) - self.number) if last else 0.0
        return np.array([0.0, self.tick == 5], np.float32), reward, last, False, {}


class Nothing(BaseCallback):
    def _on_step(self) -> bool:
        return True


def counters(n_envs: int = 2, **kwargs):
    return make_vec_env(lambda: Counter(**kwargs), n_envs, seed=0)


def collected(model: SequenceSAC, steps: int) -> SequenceSAC:
    """Explored for `steps` of each environment, without an update."""
    _, callback = model._setup_learn(10_000, Nothing())
    for _ in range(steps // model.train_freq.frequency):
        model.collect_rollouts(model.env, callback, model.train_freq, model.replay_buffer, learning_starts=20)
    return model


def update(model: SequenceSAC, batch) -> dict[str, float]:
    once = SoftUpdate(model.burn_in, model.n_steps, model.gamma, model.tau, model.max_grad_norm)
    return once(model.policy, model.temperature, batch)


def weights(model: SequenceSAC) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.policy.parameters()])


# --- targets -------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_steps", [1, 2, 3, 7, 50])
def test_n_step_targets_equal_a_loop_over_every_row(n_steps):
    generator = torch.Generator().manual_seed(n_steps)
    batch, rows, gamma = 40, 13, 0.9
    rewards = torch.randn(batch, rows, generator=generator, dtype=torch.float64)
    values = torch.randn(batch, rows + 1, generator=generator, dtype=torch.float64)
    kind = torch.rand(batch, rows, generator=generator)
    terminated, final = kind < 0.12, kind > 0.88
    found = n_step_targets(rewards, terminated, final, values, gamma, n_steps)
    for i in range(batch):
        for t in range(rows):
            if final[i, t]:
                continue  # nothing was done there: there is no target
            expected, k = 0.0, t
            while k < rows and k - t < n_steps and not final[i, k]:
                expected += gamma ** (k - t) * rewards[i, k].item()
                k += 1
                if terminated[i, k - 1]:
                    break
            else:
                expected += gamma ** (k - t) * values[i, k].item()
            assert found[i, t].item() == pytest.approx(expected, abs=1e-12)


# --- replay --------------------------------------------------------------------------------------


def stream_of(replay: SequenceReplay, env: int) -> dict[str, np.ndarray]:
    n = int(replay.count[env])
    assert n <= replay.capacity
    names = ("rewards", "terminated", "final", "episode_starts")
    return {"ticks": replay.entries["observation"][:n, env, 0], **{k: getattr(replay, k)[:n, env] for k in names}}


def test_a_time_limit_adds_the_final_observation_as_a_row_in_which_nothing_is_done():
    model = collected(SequenceSAC("MlpPolicy", counters(2, length=6), **QUICK), 16)
    stream = stream_of(model.replay_buffer, 1)
    assert stream["ticks"].tolist() == [*range(7), *range(7), *range(4)]
    assert np.flatnonzero(stream["final"]).tolist() == [6, 13]
    assert np.flatnonzero(stream["episode_starts"]).tolist() == [0, 7, 14]
    assert stream["rewards"][:7].tolist() == [1, 2, 3, 4, 5, 6, 0]
    assert not stream["terminated"].any()


def test_a_termination_adds_no_row_and_is_followed_by_nothing():
    model = collected(SequenceSAC("MlpPolicy", counters(2, length=6, terminates=True), **QUICK), 16)
    stream = stream_of(model.replay_buffer, 0)
    assert stream["ticks"].tolist() == [*range(6), *range(6), *range(4)]
    assert np.flatnonzero(stream["terminated"]).tolist() == [5, 11]
    assert not stream["final"].any()


@pytest.mark.parametrize("backbone", ["mcsd", "gru", "lstm", "transformer", "none"])
def test_the_states_after_burn_in_are_those_of_a_scan_from_the_beginning(backbone):
    options = {**QUICK, "policy_kwargs": {**SMALL, "backbone": backbone, "window": 8}, "stride": 3}
    model = SequenceSAC("MlpPolicy", counters(2, length=11), **options)
    model.policy.update_statistics = lambda seen: None  # the kept states are of the networks as they are
    policy, replay = collected(model, 40).policy, model.replay_buffer
    rows = int(replay.count[0])
    replay.sequence_rows = rows
    whole = replay.sequences(np.array([0]), np.array([0]))
    replay.sequence_rows = 13
    everything, starts = policy.seen_in(whole), whole.episode_starts
    assert starts[0, 1:].sum() >= 3
    for block in range(1, int(replay.available()[0])):
        batch = replay.sequences(np.array([block]), np.array([0]))
        burned = {k: v[:, :4] for k, v in model.policy.seen_in(batch).items()}
        states = policy.burn_in(burned, batch.states, batch.episode_starts[:, :4])
        end = 3 * block + 4
        for network, state in zip(policy.networks, states, strict=True):
            inputs = {k: everything[k][:, :end] for k in network.observation_specs}
            expected = network.scan(inputs, network.initial_state(1), starts[:, :end])[1]
            torch.testing.assert_close(state, expected, rtol=1e-4, atol=1e-5)


def test_the_value_after_a_time_limit_is_asked_in_the_state_at_the_final_observation():
    model = SequenceSAC("MlpPolicy", counters(1, length=6), **QUICK, gamma=0.5, ent_coef=0.0)
    model.policy.update_statistics = lambda seen: None
    policy, replay = collected(model, 24).policy, model.replay_buffer
    batch = replay.sequences(np.array([0]), np.array([0]))
    seen = model.policy.seen_in(batch)
    actions = torch.zeros(1, 13, 2)
    q = policy.target_q(seen, batch.states, batch.episode_starts, actions)
    # the same episode alone, one step after the other
    expected = []
    for target in policy.targets:
        state = target.initial_state(1)
        for row in range(7):
            features, state = target.step({k: v[:, row] for k, v in seen.items()}, state)
        expected.append(target.q(features, actions[:, 0]).item())
    assert seen["observation"][0, 6, 0] == 6.0
    assert q[0, 6].item() == pytest.approx(min(expected), rel=1e-4, abs=1e-6)
    targets = n_step_targets(batch.rewards[:, :-1], batch.terminated[:, :-1], batch.final[:, :-1], q, 0.5, 1)
    assert targets[0, 5].item() == pytest.approx(6.0 + 0.5 * min(expected), rel=1e-5)


def test_sequences_are_windows_of_one_environment_also_after_the_replay_wrapped_around():
    replay = SequenceReplay(
        96, Counter.observation_space, Counter.action_space, 2, rows=10, stride=4, state_shapes=[(1, 3)]
    )
    assert replay.capacity == 48
    for row in range(131):
        both = np.array([row, 1000 + row], np.float32)
        replay.add(
            {"observation": both[:, None]},
            np.stack([both, both], 1),
            both,
            np.zeros(2, bool),
            np.array([row == 0] * 2),
            [torch.from_numpy(both)[:, None, None].expand(2, 1, 3)],
        )
        if row % 9 == 8:
            replay.add_final(0, {"observation": np.array([-1.0])}, [torch.full((1, 1, 3), -1.0)])
    assert replay.count.tolist() == [145, 131]
    batch = replay.sample(300)
    for observed, previous, state in zip(
        batch.observations["observation"][..., 0], batch.previous_rewards, batch.states[0][:, 0, 0], strict=True
    ):
        assert observed[0] == state  # the state kept there is the one before the first row
        real = observed[observed >= 0]
        assert (real.diff() == 1).all()
        after = torch.cat([previous[1:], previous[:0]])
        assert ((after == observed[:-1]) | (observed[:-1] < 0)).all()
        if previous[0] > 0 and observed[0] >= 0:
            assert observed[0] - previous[0] == 1
    everywhere = torch.unique(
        batch.observations["observation"][:, 0, 0][batch.observations["observation"][:, 0, 0] >= 0]
    )
    assert everywhere.min() > 80  # only what has not been overwritten
    assert (everywhere >= 1000).any()
    assert (everywhere < 1000).any()


def test_episodes_left_in_the_middle_end_in_a_row_that_is_not_learned_from():
    model = collected(SequenceSAC("MlpPolicy", counters(2, length=100), **QUICK), 8)
    assert not model.replay_buffer.final.any()
    collected(model, 8)  # begins anew: the environments are reset
    stream = stream_of(model.replay_buffer, 0)
    assert stream["ticks"].tolist() == [*range(8), *range(8)]
    assert np.flatnonzero(stream["final"]).tolist() == [7]
    assert np.flatnonzero(stream["episode_starts"]).tolist() == [0, 8]


def test_a_replay_too_small_for_one_sequence_is_refused():
    with pytest.raises(UserError, match=r"buffer_size=20 must be at least 30"):
        SequenceSAC("MlpPolicy", counters(2), **{**QUICK, "buffer_size": 20})


# --- learning ------------------------------------------------------------------------------------


def test_final_rows_move_nothing():
    model = collected(SequenceSAC("MlpPolicy", counters(2, length=6), **QUICK, ent_coef=0.1), 40)
    batch = model.replay_buffer.sample(8)
    changed = copy.deepcopy(batch)
    changed.actions[batch.final] = 1.0
    changed.rewards[batch.final] = 100.0
    changed.terminated[batch.final] = True
    other = copy.deepcopy(model.policy)
    torch.manual_seed(0)
    first = update(model, batch)
    after, model.policy = weights(model), other
    torch.manual_seed(0)
    assert update(model, changed) == first
    assert torch.equal(weights(model), after)


def test_burn_in_rows_are_read_and_not_learned_from():
    model = collected(SequenceSAC("MlpPolicy", counters(2, length=60), **QUICK, ent_coef=0.1), 40)
    batch = model.replay_buffer.sample(8)
    other = copy.deepcopy(batch)
    other.rewards[:, :4] = 50.0
    other.actions[:, :4] = 0.0
    policies = [copy.deepcopy(model.policy) for _ in range(2)]
    torch.manual_seed(0)
    first = update(model, batch)
    model.policy = policies[0]
    torch.manual_seed(0)
    assert update(model, other) == first
    other.observations["observation"][:, :4] += 1.0
    model.policy = policies[1]
    torch.manual_seed(0)
    assert update(model, other)["critic_loss"] != first["critic_loss"]


def test_the_value_of_what_follows_is_the_targets_q_with_the_entropy(monkeypatch):
    model = collected(SequenceSAC("MlpPolicy", counters(), **QUICK, ent_coef=0.3), 40)
    drawn, valued = [], []
    density, target_q = model.policy.density, model.policy.target_q

    def recording(kept, function):
        def call(*arguments):
            kept.append(function(*arguments))
            return kept[-1]

        return call

    monkeypatch.setattr(model.policy, "density", recording(drawn, density))
    monkeypatch.setattr(model.policy, "target_q", recording(valued, target_q))

    def targets(rewards, terminated, final, values, gamma, n_steps):
        (_, log_prob), (q,) = drawn[0], valued
        torch.testing.assert_close(values, q - 0.3 * log_prob.detach())
        seen.append(values)
        return n_step_targets(rewards, terminated, final, values, gamma, n_steps)

    seen = []
    monkeypatch.setattr("mcsd_agent.training.soft_update.n_step_targets", targets)
    update(model, model.replay_buffer.sample(4))
    assert len(seen) == 1


def test_the_temperature_falls_where_the_entropy_is_above_its_target_and_rises_below():
    def moved(target: float) -> float:
        model = collected(SequenceSAC("MlpPolicy", counters(), **QUICK, target_entropy=target, ent_coef="auto_0.3"), 40)
        assert update(model, model.replay_buffer.sample(4))["ent_coef"] == pytest.approx(0.3)
        return model.temperature.value - 0.3

    assert moved(-20.0) < 0.0 < moved(20.0)


def test_exploration_and_prediction_use_the_weights_that_the_update_learned():
    model = SequenceSAC("MlpPolicy", counters(), **QUICK, learning_rate=0.03).learn(96)
    net, ticks = model.policy.net, torch.arange(5.0)[None, :, None]
    scanned = net.head.mode(net.action_net(net.scan({"observation": ticks}, net.initial_state(1))[0]))[0]
    state, predicted = None, []
    for tick in ticks[0].numpy():
        action, state = model.predict(tick, state, deterministic=True)
        predicted.append(action)
    np.testing.assert_allclose(np.stack(predicted), scanned.detach().numpy(), atol=1e-4)


def test_targets_follow_the_critics_by_tau():
    model = collected(SequenceSAC("MlpPolicy", counters(), **QUICK, tau=0.25), 40)
    before = [p.clone() for p in model.policy.targets.parameters()]
    update(model, model.replay_buffer.sample(4))
    for old, new, critic in zip(
        before, model.policy.targets.parameters(), model.policy.critics.parameters(), strict=True
    ):
        torch.testing.assert_close(new, old + 0.25 * (critic - old))


def test_actions_keep_to_asymmetric_bounds_and_the_density_does_not_depend_on_them():
    model = SequenceSAC("MlpPolicy", counters(), **QUICK).learn(64)
    low, high = Counter.action_space.low, Counter.action_space.high
    written = model.replay_buffer.actions[:20]
    assert ((written >= low) & (written <= high)).all()
    assert (written.reshape(-1, 2).std(0) > 0.1 * (high - low)).all()
    _, log_prob = model.policy.density(torch.zeros(20_000, 16))
    samples, _ = model.policy.density(torch.zeros(20_000, 16))
    assert samples.abs().max() <= 1.0
    # the mean of 1 / density over samples is the volume of [-1, 1]², wherever the environment's bounds are
    assert (-log_prob).exp().mean().item() == pytest.approx(4.0, rel=0.2)


# --- as stable-baselines3 has it -----------------------------------------------------------------


def test_two_runs_of_one_seed_are_equal_and_of_two_seeds_are_not():
    def run(seed: int) -> torch.Tensor:
        return weights(SequenceSAC("MlpPolicy", counters(), **{**QUICK, "seed": seed}).learn(96))

    assert torch.equal(run(0), run(0))
    assert not torch.equal(run(0), run(1))


def test_save_and_load_keep_every_action_the_optimisers_and_the_replay(tmp_path):
    model = SequenceSAC("MlpPolicy", counters(), **QUICK).learn(96)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "replay.pt")
    again = SequenceSAC.load(tmp_path / "model", env=counters())
    again.load_replay_buffer(tmp_path / "replay.pt")
    observation = np.random.default_rng(0).normal(size=(3, 1)).astype(np.float32)
    for mine, loaded in zip(
        model.predict(observation, deterministic=True), again.predict(observation, deterministic=True), strict=True
    ):
        np.testing.assert_array_equal(mine, loaded)
    model.replay_buffer.cut()
    results = []
    for one in (model, again):
        torch.manual_seed(0)
        results.append(update(one, one.replay_buffer.sample(4)))
    assert results[0] == results[1]
    again.learn(64)


def test_callbacks_normalisation_evaluation_and_dicts_work(tmp_path):
    class Both(Counter):
        observation_space = spaces.Dict({"observation": Counter.observation_space, "odd": spaces.Discrete(2)})

        def reset(self, **kwargs):
            observation, info = super().reset(**kwargs)
            return {"observation": observation, "odd": 0}, info

        def step(self, action):
            observation, *rest = super().step(action)
            return {"observation": observation, "odd": self.tick % 2}, *rest

    env = VecNormalize(make_vec_env(Both, 2, seed=0), norm_obs_keys=["observation"])
    judged = VecNormalize(make_vec_env(Both, 2, seed=1), training=False, norm_obs_keys=["observation"])
    model = SequenceSAC("MultiInputPolicy", env, **QUICK, tensorboard_log=str(tmp_path / "board"))
    callbacks = [
        EvalCallback(judged, eval_freq=20, n_eval_episodes=2, verbose=0, best_model_save_path=str(tmp_path)),
        CheckpointCallback(20, str(tmp_path), save_replay_buffer=True, save_vecnormalize=True),
    ]
    model.learn(96, callbacks, log_interval=2)
    assert {p.suffix for p in tmp_path.iterdir()} >= {".zip", ".pkl"}
    assert list((tmp_path / "board").rglob("events.out.tfevents*"))
    ticks = model.replay_buffer.entries["observation"][: int(model.replay_buffer.count[0]), 0, 0]
    assert ticks[:7].tolist() == [*range(7)]  # kept as the environment gave them, the final one too
    assert model.replay_buffer.sample(4, env).observations["observation"].abs().max() < 6.0
    assert evaluate_policy(model, judged, n_eval_episodes=2)[0] == 21.0


def test_a_callback_that_ends_training_leaves_nothing_out_of_step():
    class Stop(BaseCallback):
        def _on_step(self) -> bool:
            return self.n_calls < 7

    model = SequenceSAC("MlpPolicy", counters(2, length=100), **QUICK).learn(96, Stop())
    assert model.num_timesteps == 14
    model.learn(20, reset_num_timesteps=False)
    assert stream_of(model.replay_buffer, 0)["ticks"].tolist() == [*range(int(model.replay_buffer.count[0]))]


def test_training_in_episodes_updates_after_each():
    options = {**QUICK, "train_freq": (2, "episode"), "gradient_steps": -1}
    model = SequenceSAC("MlpPolicy", counters(1, length=10), **options).learn(60)
    assert model._n_updates == 20 * 2  # the first 20 steps only explore


def resumed(model: SequenceSAC, env) -> SequenceSAC:
    """A model of another seed that was given the state of `model`, through a file."""
    file = io.BytesIO()
    torch.save(model.resume_state(), file)
    file.seek(0)
    other = SequenceSAC("MlpPolicy", env, **{**QUICK, "seed": 9})
    other.set_resume_state(torch.load(file, weights_only=True))
    return other


@pytest.mark.parametrize("normalised", [False, True])
def test_a_resumed_run_goes_on_as_if_it_had_not_been_interrupted(normalised):
    env = counters(2, length=7)
    model = SequenceSAC("MlpPolicy", VecNormalize(env) if normalised else env, **QUICK).learn(96)
    other_env = copy.deepcopy(env)
    if normalised:
        normaliser = copy.deepcopy(model.env)  # without the environments
        normaliser.set_venv(other_env)  # which forgets the returns under way
        normaliser.returns = model.env.returns.copy()
        other_env = normaliser
    again = resumed(model, other_env)
    for one in (model, again):
        torch.manual_seed(3)
        one.learn(64, reset_num_timesteps=False)
    assert torch.equal(weights(model), weights(again))
    assert again.num_timesteps == model.num_timesteps == 160
    assert again._n_updates == model._n_updates
    np.testing.assert_array_equal(model.replay_buffer.actions, again.replay_buffer.actions)
    assert [e["r"] for e in model.ep_info_buffer] == [e["r"] for e in again.ep_info_buffer]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"policy_kwargs": {**SMALL, "width": 32}}, "replay is of other spaces or sizes"),
        ({"policy_kwargs": {**SMALL, "backbone": "gru"}}, "replay is of other spaces or sizes"),
        ({"policy_kwargs": {**SMALL, "expansion": 3}}, "checkpoint is of another policy"),
        ({"buffer_size": 500}, "replay is of other spaces or sizes"),
        ({"ent_coef": 0.1}, "ent_coef=0.1 must be that of the checkpoint"),
    ],
)
def test_the_state_of_another_policy_is_refused_in_one_line(changes, words):
    state = SequenceSAC("MlpPolicy", counters(), **QUICK).learn(32).resume_state()
    with pytest.raises(UserError, match=words):
        SequenceSAC("MlpPolicy", counters(), **{**QUICK, **changes}).set_resume_state(state)


def test_export_is_the_squashed_mean_and_states_the_environment(tmp_path):
    env = make_vec_env("mcsd/PendulumNoVel-v1", 2, seed=0)
    model = SequenceSAC("MlpPolicy", env, **QUICK).learn(64)
    report = model.export(tmp_path / "pendulum.mcsd")
    assert report.max_action_deviation < 1e-4
    package = read_package(tmp_path / "pendulum.mcsd")
    assert package.spec.metadata["env"] == "mcsd/PendulumNoVel-v1"
    assert package.spec.policy["head"] == "squashed"
    assert not any("critic" in name for name in package.weights)
    stream, state = Stream.load(tmp_path / "pendulum.mcsd"), None
    streamed_state = stream.initial_state()
    for observation in np.random.default_rng(0).uniform(-1, 1, (5, 2)).astype(np.float32):
        streamed, streamed_state = stream.step(observation, streamed_state)
        action, state = model.predict(observation, state, deterministic=True)
        np.testing.assert_allclose(streamed, action, atol=1e-4)
    assert model.sequence_policy is model.policy.net


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("bad", ["observation", "final observation", "reward"])
def test_a_nan_names_the_environment_and_the_step_and_stops_before_the_update(bad, normalised):
    env = make_vec_env(lambda: Counter(5, bad=""), 3, seed=0)
    env.envs[2].unwrapped.bad = bad
    if normalised:
        env = VecNormalize(env)
    model = SequenceSAC("MlpPolicy", env, **{**QUICK, "learning_starts": 0})
    before = weights(model)
    step = 5 if bad == "final observation" else 3
    with pytest.raises(UserError, match=f"environment 2 gave a non-finite {bad.split()[-1]} at step {step}"):
        model.learn(64)
    assert torch.equal(weights(model), before)


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (spaces.Discrete(2), r"needs Box actions, not Discrete\(2\); use SequencePPO"),
        (spaces.MultiBinary(2), "needs Box actions"),
        (spaces.Box(-np.inf, np.inf, (2,), np.float32), r"finite bounds.*TransformAction\(env"),
    ],
)
def test_actions_that_are_not_bounded_reals_are_refused(space, words):
    with pytest.raises(UserError, match=words):
        SequenceSAC("MlpPolicy", Counter(space=space))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"sequence_length": 0}, "sequence_length=0 must be at least 1"),
        ({"burn_in": -1}, "burn_in=-1 must be at least 0"),
        ({"n_steps": 0}, "n_steps=0 must be at least 1"),
        ({"stride": 0}, "stride=0 must be at least 1"),
        ({"ent_coef": "autto"}, "ent_coef='autto'"),
        ({"ent_coef": "auto_0"}, "ent_coef='auto_0'"),
        ({"ent_coef": -1.0}, "ent_coef=-1.0"),
        ({"target_entropy": "low"}, "target_entropy='low'"),
        ({"policy_kwargs": {"head": "binned"}}, "use head='squashed'"),
        ({"policy_kwargs": {"bakbone": "gru"}}, "did you mean 'backbone'"),
    ],
)
def test_bad_arguments_are_one_clear_line(arguments, words):
    with pytest.raises(UserError, match=words) as refused:
        SequenceSAC("MlpPolicy", counters(), **{**QUICK, **arguments})
    assert "\n" not in str(refused.value)


# --- memory --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_number_seen_once_is_remembered_with_a_memory_and_only_then():
    def learned(backbone: str) -> float:
        model = SequenceSAC(
            "MlpPolicy",
            make_vec_env(Remember, 8, seed=0),
            policy_kwargs={"width": 32, "layers": 1, "backbone": backbone},
            learning_starts=400,
            batch_size=32,
            sequence_length=12,
            burn_in=0,
            train_freq=4,
            gradient_steps=2,
            tau=0.02,
            learning_rate=2e-3,
            seed=0,
            device="cpu",
        ).learn(8_000)
        return evaluate_policy(model, make_vec_env(Remember, 4, seed=5), n_eval_episodes=60)[0]

    assert learned("mcsd") > 0.85
    assert learned("none") < 0.5  # 0.3 on average with any constant answer between the two numbers


def test_a_policy_saved_alone_acts_as_before(tmp_path):
    policy = SequenceSAC("MlpPolicy", Counter(), **QUICK).policy
    policy.save(tmp_path / "policy.pt")
    loaded = type(policy).load(tmp_path / "policy.pt")
    states = [None, None]
    for observation in np.random.default_rng(0).normal(size=(5, 1)).astype(np.float32):
        (a, states[0]), (b, states[1]) = (
            p.predict(observation, s, deterministic=True) for p, s in zip((policy, loaded), states, strict=True)
        )
        assert np.array_equal(a, b)
        assert np.array_equal(*states)
