"""PPO over whole sequences, for policies with memory.

Schulman et al., arXiv 1707.06347. Each environment's rollout is one sequence with the state it began with, or
several; minibatches are groups of sequences, as in CleanRL's recurrent PPO. Episode starts are part of the
recurrence, so that nothing is padded and the parallel form is used throughout.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.utils import FloatSchedule, explained_variance
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from mcsd_agent.artifact import ParityReport
from mcsd_agent.errors import UserError
from mcsd_agent.heads import BinnedHead, GaussianHead
from mcsd_agent.policy import Policy
from mcsd_agent.training import environments  # noqa: F401 -- registers the namespace mcsd/
from mcsd_agent.training.actor_critic import SequenceActorCritic
from mcsd_agent.training.instructions import EncodeInstruction, has_text, vocabulary_for
from mcsd_agent.training.leash import Leash
from mcsd_agent.training.resume_state import collection_state, load_weights, set_collection_state
from mcsd_agent.training.rollout import SequenceRolloutBuffer, Sequences
from mcsd_agent.training.rollout_step import RolloutStep
from mcsd_agent.training.trained_export import export_trained
from mcsd_agent.training.unusable_values import refuse_diverged, refuse_unusable_start, refuse_unusable_step
from mcsd_agent.training.usable_spaces import refuse_unusable_spaces

#: What is seen of a minibatch, and its name in the log.
_SEEN = {
    "policy": "policy_gradient_loss",
    "value": "value_loss",
    "entropy": "entropy_loss",
    "kl": "approx_kl",
    "leash": "leash_kl",
    "prediction": "prediction_loss",
    "clip_fraction": "clip_fraction",
    "loss": "loss",
}


class SequencePPO(OnPolicyAlgorithm):
    """A drop-in beside stable-baselines3's algorithms, for policies with memory.

    :param policy: `MlpPolicy`, `CnnPolicy` or `MultiInputPolicy`: all build the encoder that fits the space.
        The names of sb3-contrib's `RecurrentPPO`, such as `MlpLstmPolicy`, are taken too
    :param env: environment, its id, or a vectorised environment; use several (`make_vec_env(..., n_envs=16)`)
    :param learning_rate: number or schedule of the remaining progress
    :param n_steps: length of each environment's sequence per update
    :param batch_size: steps per minibatch, counted as in `RecurrentPPO`; sequences are then as long as
        `min(n_steps, batch_size)`. None leaves the minibatches to `n_minibatches`
    :param n_minibatches: groups of environments per epoch; must divide the number of environments.
        None takes the largest divisor up to 4
    :param n_epochs: passes over each rollout
    :param gamma: discount
    :param gae_lambda: trade-off of bias and variance in the advantage
    :param clip_range: clipping of the probability ratio, number or schedule
    :param clip_range_vf: clipping of the value, None for none
    :param normalize_advantage: to mean 0 and deviation 1 in each minibatch
    :param ent_coef: weight of the entropy bonus
    :param vf_coef: weight of the value loss
    :param max_grad_norm: gradient clipping
    :param noise_correlation: from 0 up to below 1: how much of the exploration noise of Box actions is that of
        the step before. Noise that lasts pushes a sluggish machine further than white noise does
    :param use_sde: not supported, `noise_correlation` serves its purpose; must be False
    :param target_kl: end an update early beyond 1.5 times this divergence; None for no limit
    :param leash_coef: weight of the divergence from the policy that training began with (`hold_to`), per step
    :param value_warmup: steps at the beginning in which only the value function learns; what a policy that there is
        can do would otherwise be lost to a value function that knows nothing
    :param prediction_coef: weight of predicting how vector observations change until the next step, from the policy's
        features and the action; it teaches a memory what is not seen, such as velocities, before rewards do
    :param gradient_accumulation_steps: minibatches whose gradients make one step of the optimiser
    :param policy_kwargs: keys of `PolicyConfig`, such as `dict(backbone="mcsd", preset="paper", width=64)`
    :param stats_window_size: episodes averaged in the log
    :param tensorboard_log: folder for TensorBoard events
    :param verbose: 0 silent, 1 information
    :param seed: seeds policy, environments and sampling
    :param device: `cpu`, `cuda` or `auto`

    Vector observations are scaled by running statistics that are part of the policy and of its
    export; they change between updates only. Returns are scaled too (`value_scale`), so that one
    `vf_coef` fits any reward. An environment with a method `action_masks()` has its masks obeyed.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = dict.fromkeys(
        [f"{kind}{memory}Policy" for memory in ("", "Lstm") for kind in ("Mlp", "Cnn", "MultiInput")],
        SequenceActorCritic,
    )
    policy: SequenceActorCritic  # type: ignore[assignment]
    rollout_buffer: SequenceRolloutBuffer

    def __init__(
        self,
        policy: str | type[SequenceActorCritic],
        env: GymEnv | str,
        learning_rate: float | Schedule = 1e-3,
        n_steps: int = 128,
        batch_size: int | None = None,
        n_minibatches: int | None = None,
        n_epochs: int = 4,
        gamma: float = 0.99,
        gae_lambda: float = 0.95,
        clip_range: float | Schedule = 0.2,
        clip_range_vf: float | Schedule | None = None,
        normalize_advantage: bool = True,
        ent_coef: float = 0.0,
        vf_coef: float = 0.5,
        max_grad_norm: float = 0.5,
        noise_correlation: float = 0.0,
        use_sde: bool = False,
        sde_sample_freq: int = -1,
        target_kl: float | None = None,
        gradient_accumulation_steps: int = 1,
        leash_coef: float = 0.0,
        value_warmup: int = 0,
        prediction_coef: float = 0.0,
        policy_kwargs: dict[str, Any] | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        if use_sde:
            raise UserError("use_sde=True is not supported by sequence policies; try noise_correlation=0.9")
        super().__init__(
            policy,  # type: ignore[arg-type]
            env,
            learning_rate=learning_rate,
            n_steps=n_steps,
            gamma=gamma,
            gae_lambda=gae_lambda,
            ent_coef=ent_coef,
            vf_coef=vf_coef,
            max_grad_norm=max_grad_norm,
            use_sde=False,
            sde_sample_freq=sde_sample_freq,
            rollout_buffer_class=SequenceRolloutBuffer,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            seed=seed,
            device=device,
            _init_setup_model=False,
        )
        self.batch_size = batch_size
        self.n_minibatches = n_minibatches
        self.n_epochs = n_epochs
        self.clip_range = clip_range
        self.clip_range_vf = clip_range_vf
        self.normalize_advantage = normalize_advantage
        self.target_kl = target_kl
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self.noise_correlation = noise_correlation
        self.leash_coef = leash_coef
        self.value_warmup = value_warmup
        self.prediction_coef = prediction_coef
        self.leash: Leash | None = None
        self.use_masking = True
        self._noise: torch.Tensor | None = None
        self._last_state: torch.Tensor | None = None
        if _init_setup_model:
            self._setup_model()

    @staticmethod
    def _wrap_env(env: GymEnv, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        """A vectorised environment whose text is encoded; images keep their channels last.

        `UserError` where a policy cannot read its observations or give its actions.
        """
        if not isinstance(env, VecEnv):
            single = env
            if has_text(single.observation_space):
                single = EncodeInstruction(single, vocabulary_for(single))
            refuse_unusable_spaces(single.observation_space, single.action_space)
            if monitor_wrapper:
                single = Monitor(single)
            return DummyVecEnv([lambda: single])
        if has_text(env.observation_space):
            raise UserError("a vectorised environment has a Text entry; wrap each environment in EncodeInstruction")
        refuse_unusable_spaces(env.observation_space, env.action_space)
        return env

    def _setup_model(self) -> None:
        if self.n_steps < 2 or self.n_epochs < 1:
            raise UserError(f"n_steps={self.n_steps} must be at least 2 and n_epochs={self.n_epochs} at least 1")
        if not 0.0 <= self.noise_correlation < 1.0:
            raise UserError(f"noise_correlation={self.noise_correlation} must be at least 0 and below 1")
        if self.noise_correlation and not isinstance(self.action_space, spaces.Box):
            raise UserError(f"noise_correlation={self.noise_correlation} needs Box actions; leave it 0")
        if not self.leash_coef >= 0.0 or self.value_warmup < 0:
            raise UserError(f"leash_coef={self.leash_coef} and value_warmup={self.value_warmup} must be at least 0")
        if not self.prediction_coef >= 0.0:
            raise UserError(f"prediction_coef={self.prediction_coef} must be at least 0")
        length = self._set_minibatches()
        if self.prediction_coef:
            self.policy_kwargs = {**self.policy_kwargs, "foresees": True}
        self.rollout_buffer_kwargs = {"sequence_length": length}
        super()._setup_model()
        if self.noise_correlation and isinstance(self.policy.net.head, BinnedHead):
            raise UserError(
                f"noise_correlation={self.noise_correlation} needs head='gaussian' or 'squashed', not 'binned'"
            )
        self._rollout_step = RolloutStep(self.policy)
        self.clip_range = FloatSchedule(self.clip_range)
        if self.clip_range_vf is not None:
            self.clip_range_vf = FloatSchedule(self.clip_range_vf)

    def _set_minibatches(self) -> int:
        """The length of a sequence; decides `n_minibatches`, and refuses what does not come out even."""
        length = self.n_steps
        if self.batch_size is not None:
            if self.n_minibatches is not None:
                raise UserError(f"give batch_size={self.batch_size} or n_minibatches={self.n_minibatches}, not both")
            length = min(self.n_steps, self.batch_size)
            steps = self.n_steps * self.n_envs
            if length < 1 or self.n_steps % length or steps % self.batch_size or self.batch_size % length:
                raise UserError(
                    f"batch_size={self.batch_size} must divide n_steps * n_envs = {self.n_steps} * {self.n_envs}, and "
                    f"divide n_steps or be a multiple of it; try batch_size={self.n_steps}"
                )
            self._minibatches = steps // self.batch_size
        else:
            wanted = self.n_minibatches
            self._minibatches = max(k for k in range(1, 5) if self.n_envs % k == 0) if wanted is None else wanted
            if self._minibatches < 1 or self.n_envs % self._minibatches:
                raise UserError(
                    f"n_minibatches={wanted} must divide the number of environments, which is {self.n_envs}"
                )
        if self.gradient_accumulation_steps < 1 or self._minibatches % self.gradient_accumulation_steps:
            raise UserError(
                f"gradient_accumulation_steps={self.gradient_accumulation_steps} must divide the number of "
                f"minibatches, which is {self._minibatches}"
            )
        return length

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_last_state", "_noise", "_rollout_step", "leash"]

    def hold_to(self, policy: Policy) -> None:
        """Stay close to `policy`, as far as `leash_coef` says; it is copied."""
        self.leash = Leash(policy)

    def collect_rollouts(  # type: ignore[override]
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: SequenceRolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """Fill the buffer with one sequence per environment; False when a callback ends training."""
        assert self._last_obs is not None
        self.policy.set_training_mode(False)
        refuse_unusable_start(env, self._last_obs)
        if self._last_state is None or len(self._last_state) != env.num_envs:
            self._last_state = self.policy.initial_state(env.num_envs)
            if self.leash is not None:
                self.leash.forget()
        masking = self.use_masking and env.has_attr("action_masks")
        rollout_buffer.reset()
        callback.on_rollout_start()
        for step in range(n_rollout_steps):
            masks = np.stack(env.env_method("action_masks")) if masking else None
            state, starts = self._last_state, self._last_episode_starts
            assert starts is not None
            actions, values, log_probs, next_state = self._rollout_step(
                self._last_obs, state, starts, masks, self._next_noise(starts)
            )
            sent = actions
            if isinstance(self.action_space, spaces.Box):
                sent = np.clip(actions, self.action_space.low, self.action_space.high)
            new_obs, rewards, dones, infos = env.step(sent)
            refuse_unusable_step(env, new_obs, rewards, dones, infos, self.num_timesteps // self.n_envs + 1, step)
            self.num_timesteps += env.num_envs
            callback.update_locals(locals())
            if not callback.on_step():
                return False
            self._update_info_buffer(infos, dones)
            self._bootstrap_truncations(rewards, dones, infos, next_state)
            rollout_buffer.add(
                self._last_obs, actions, rewards, self._last_episode_starts, values, log_probs, state,
                None if masks is None else masks.reshape(len(masks), -1),
            )  # fmt: skip
            self._last_obs, self._last_episode_starts = new_obs, dones  # type: ignore[assignment]
            self._last_state = next_state  # also for training that goes on after a callback ended it
        with torch.no_grad():
            last = self.policy.predict_values(
                self.policy.tensors(new_obs), self._last_state, torch.as_tensor(dones, device=self.device)
            )
        rollout_buffer.compute_returns_and_advantage(last_values=last, dones=dones)
        if self.leash is not None and self.leash_coef:
            rollout_buffer.reference = self.leash.follow(rollout_buffer.entries, rollout_buffer.episode_starts)
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def _next_noise(self, starts: np.ndarray) -> torch.Tensor | None:
        """Exploration noise `(n_envs, dims)` that remembers the step before, but not the episode before."""
        if not self.noise_correlation:
            return None
        fresh = torch.randn(self.n_envs, *self.action_space.shape, device=self.device)  # type: ignore[misc]
        if self._noise is not None:
            share = self.noise_correlation
            lasting = share * self._noise + (1.0 - share**2) ** 0.5 * fresh
            anew = torch.as_tensor(starts, device=self.device).bool()[:, None]
            fresh = torch.where(anew, fresh, lasting)
        self._noise = fresh
        return fresh

    def _bootstrap_truncations(
        self, rewards: np.ndarray, dones: np.ndarray, infos: list[dict[str, Any]], state: torch.Tensor
    ) -> None:
        """Where a time limit cut an episode, add the value of what would have followed, from that episode's state."""
        cut = [i for i in np.flatnonzero(dones) if infos[i].get("TimeLimit.truncated", False)]
        for i in cut:
            final = self.policy.as_batch(infos[i]["terminal_observation"])[0]
            with torch.no_grad():
                value = self.policy.predict_values(self.policy.tensors(final), state[i : i + 1], None)
            rewards[i] += self.gamma * value.item()

    def train(self) -> None:
        """One update from the rollout in the buffer."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        clip_range = self.clip_range(self._current_progress_remaining)  # type: ignore[operator]
        log: dict[str, list[float]] = {k: [] for k in _SEEN}
        warming_up = self.num_timesteps <= self.value_warmup
        parameters = self.policy.value_parameters() if warming_up else list(self.policy.parameters())
        self._update_value_scale()
        stop = False
        for _ in range(self.n_epochs):
            for i, batch in enumerate(self.rollout_buffer.sequences(self._minibatches)):
                loss, seen = self._loss(batch, clip_range)
                refuse_diverged(seen)
                for name, value in seen.items():
                    log[name].append(value)
                if self.target_kl is not None and seen["kl"] > 1.5 * self.target_kl:
                    stop = True
                    break
                if i % self.gradient_accumulation_steps == 0:
                    self.policy.optimizer.zero_grad(set_to_none=True)
                (loss / self.gradient_accumulation_steps).backward(inputs=parameters if warming_up else None)
                if (i + 1) % self.gradient_accumulation_steps == 0:
                    torch.nn.utils.clip_grad_norm_(parameters, self.max_grad_norm)
                    self.policy.optimizer.step()
            self._n_updates += 1
            if stop:
                break
        self._update_statistics()
        buffer = self.rollout_buffer
        self.logger.record(
            "train/explained_variance", explained_variance(buffer.values.ravel(), buffer.returns.ravel())
        )
        for name, values_seen in log.items():
            if {"leash": self.leash is not None, "prediction": self.prediction_coef > 0.0}.get(name, True):
                self.logger.record(f"train/{_SEEN[name]}", float(np.mean(values_seen)))
        self.logger.record("train/clip_range", clip_range)
        if self.clip_range_vf is not None:
            limit = self.clip_range_vf(self._current_progress_remaining)  # type: ignore[operator]
            self.logger.record("train/clip_range_vf", limit)
        if isinstance(self.policy.net.head, GaussianHead):
            self.logger.record("train/std", self.policy.net.head.log_std.exp().mean().item())
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def _loss(self, batch: Sequences, clip_range: float) -> tuple[torch.Tensor, dict[str, float]]:
        """PPO's loss of a minibatch, and what the log says about it."""
        values, log_prob, entropies, divergences, prediction = self.policy.evaluate_sequences(
            batch.observations, batch.actions, batch.state, batch.episode_starts, batch.masks, batch.reference
        )
        advantages = batch.advantages
        if self.normalize_advantage and advantages.numel() > 1:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        log_ratio = (log_prob - batch.old_log_prob).clamp(-20.0, 20.0)  # e^20 is finite, whatever a policy does
        ratio = log_ratio.exp()
        clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
        policy_loss = -torch.min(ratio * advantages, clipped * advantages).mean()
        if self.clip_range_vf is not None:
            limit = self.clip_range_vf(self._current_progress_remaining)  # type: ignore[operator]
            values = batch.old_values + (values - batch.old_values).clamp(-limit, limit)
        value_loss = ((batch.returns - values) / self.policy.value_scale.deviation).square().mean()
        entropy, leash = entropies.mean(), divergences.mean()
        loss = policy_loss + self.vf_coef * value_loss - self.ent_coef * entropy + self.leash_coef * leash
        if self.prediction_coef:
            loss = loss + self.prediction_coef * prediction
        with torch.no_grad():
            # Low-variance estimate of KL(old, new): J. Schulman, "Approximating KL divergence", 2020.
            kl = (ratio - 1 - log_ratio).mean()
            fraction = ((ratio - 1).abs() > clip_range).float().mean()
            seen = torch.stack([policy_loss, value_loss, -entropy, kl, leash, prediction, fraction, loss]).tolist()
        return loss, dict(zip(_SEEN, seen, strict=True))

    def _update_value_scale(self) -> None:
        """What the values of the rollout were stays; only the units in which they are learnt move."""
        returns = torch.from_numpy(self.rollout_buffer.returns).to(self.device)
        self.policy.value_scale.update(returns, self.policy.value_layer)

    def _update_statistics(self) -> None:
        """Scales of observations follow the data between updates, never within one."""
        flat = {k: torch.from_numpy(v.reshape(-1, *v.shape[2:])) for k, v in self.rollout_buffer.entries.items()}
        on_device = {k: v.to(self.device) for k, v in flat.items()}
        self.policy.net.encoder.update_statistics(on_device)
        if self.policy.critic is not None:
            self.policy.critic.encoder.update_statistics(on_device)

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str = "SequencePPO",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
        use_masking: bool = True,
    ) -> SequencePPO:
        """Train for `total_timesteps` environment steps; see stable-baselines3.

        `use_masking=False` ignores the environment's `action_masks()`.
        """
        if self.leash_coef and self.leash is None:
            raise UserError(f"leash_coef={self.leash_coef} needs a policy to stay close to: call hold_to(policy) first")
        self.use_masking = use_masking
        if reset_num_timesteps:
            self._last_state = None
        return super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)

    def predict(  # type: ignore[override]
        self,
        observation: Any,
        state: np.ndarray | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        action_masks: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Actions and the next state; see `SequenceActorCritic.predict`."""
        return self.policy.predict(observation, state, episode_start, deterministic, action_masks)

    def resume_state(self) -> dict[str, Any]:
        """Everything of the algorithm that the next update depends on, as tensors and plain values."""
        return {
            "policy": self.policy.state_dict(),
            "optimizer": self.policy.optimizer.state_dict(),
            "n_updates": self._n_updates,
            **collection_state(self),
            "recurrent_state": self._last_state,
            "noise": self._noise,
            "leash": None if self.leash is None else self.leash.resume_state(),
        }

    def set_resume_state(self, state: dict[str, Any]) -> None:
        """Go on from what `resume_state` returned; `UserError` when it is of another policy."""
        load_weights(self.policy, state["policy"], self.policy.optimizer, state["optimizer"])
        self._n_updates = state["n_updates"]
        set_collection_state(self, state)
        held = (state["recurrent_state"], state["noise"])
        self._last_state, self._noise = (None if v is None else v.to(self.device) for v in held)
        if state.get("leash") is not None:
            self.hold_to(self.policy.net)
            self.leash.set_resume_state(state["leash"])  # type: ignore[union-attr]

    @property
    def sequence_policy(self) -> Policy:
        """The trained network, without stable-baselines3 around it."""
        return self.policy.net

    def export(self, path: str | Path, *, rate_hz: float | None = None) -> ParityReport:
        """Write the deployable artifact; `rate_hz` defaults to the environment's `metadata["render_fps"]`."""
        return export_trained(self, self.policy.net, path, rate_hz)
