"""Soft actor-critic over sequences from a replay, for policies with memory and continuous actions.

Haarnoja et al., arXiv 1812.05905, with the replay of R2D2 (Kapturowski et al., 2019): a sequence begins with the
states that the networks had there; they are first brought up to today's weights by reading `burn_in` rows, without
gradient; then `sequence_length` rows are learned from, in parallel over time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, TypedDict

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, RolloutReturn, Schedule, TrainFreq
from stable_baselines3.common.utils import should_collect_more_steps
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from mcsd_agent.artifact import ParityReport
from mcsd_agent.errors import UserError
from mcsd_agent.policy import Policy
from mcsd_agent.spaces import SINGLE
from mcsd_agent.training.resume_state import collection_state, load_weights, set_collection_state
from mcsd_agent.training.sequence_ppo import SequencePPO
from mcsd_agent.training.sequence_replay import SequenceReplay
from mcsd_agent.training.soft_actor_critic import SoftActorCritic
from mcsd_agent.training.soft_update import SoftUpdate
from mcsd_agent.training.temperature import Temperature
from mcsd_agent.training.trained_export import export_trained
from mcsd_agent.training.unusable_values import refuse_diverged, refuse_unusable_start, refuse_unusable_step
from mcsd_agent.training.usable_spaces import bounded_by_wrapper


class _Last(TypedDict):
    """What the networks know of the step before: recurrent states per network, actions and rewards per environment."""

    states: list[Tensor]
    actions: Tensor
    rewards: Tensor


class SequenceSAC(OffPolicyAlgorithm):
    """Off-policy training of policies with memory, beside stable-baselines3's SAC.

    :param policy: `MlpPolicy`, `CnnPolicy` or `MultiInputPolicy`: all build the encoder that fits the space
    :param env: environment with bounded Box actions, its id, or a vectorised environment
    :param learning_rate: of actor, critics and temperature; number or schedule of the remaining progress
    :param buffer_size: rows that the replay holds, shared equally by the environments
    :param learning_starts: environment steps with uniformly random actions before the first update
    :param batch_size: sequences per update
    :param sequence_length: rows of each sequence that are learned from
    :param burn_in: rows before them that only bring the recurrent states up to the present weights
    :param n_steps: rewards in a target before the value of what follows; less at the end of a sequence
    :param tau: how far the target critics move towards the critics after each update
    :param gamma: discount
    :param train_freq: steps of the vectorised environment between updates, or `(n, "step" | "episode")`
    :param gradient_steps: updates each time; -1 for as many as steps were collected, of all environments
    :param ent_coef: weight of the entropy; `auto` learns it, `auto_0.1` from this value on
    :param target_entropy: what `auto` steers the entropy to, in nats, of actions scaled to [-1, 1]; `auto` is minus
        the number of dimensions
    :param max_grad_norm: gradient clipping of actor and critics, None for none
    :param stride: sequences begin at every `stride`-th row, where the recurrent states are kept; None for a quarter of
        the sequence length
    :param stats_window_size: episodes averaged in the log
    :param tensorboard_log: folder for TensorBoard events
    :param policy_kwargs: keys of `PolicyConfig`, such as `dict(backbone="mcsd", width=64, layers=1)`
    :param verbose: 0 silent, 1 information
    :param seed: seeds policy, environments and sampling
    :param device: `cpu`, `cuda` or `auto`

    Vector observations are scaled by running statistics that are part of the policy and of its export. What is
    deployed is the actor with its most probable action, tanh of the mean.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = dict.fromkeys(
        ("MlpPolicy", "CnnPolicy", "MultiInputPolicy"), SoftActorCritic
    )
    policy: SoftActorCritic
    action_space: spaces.Box
    replay_buffer: SequenceReplay  # type: ignore[assignment]

    def __init__(
        self,
        policy: str | type[SoftActorCritic],
        env: GymEnv | str,
        learning_rate: float | Schedule = 1e-3,
        buffer_size: int = 1_000_000,
        learning_starts: int = 1000,
        batch_size: int = 16,
        sequence_length: int = 32,
        burn_in: int = 16,
        n_steps: int = 1,
        tau: float = 0.005,
        gamma: float = 0.99,
        train_freq: int | tuple[int, str] = 1,
        gradient_steps: int = 1,
        ent_coef: str | float = "auto",
        target_entropy: str | float = "auto",
        max_grad_norm: float | None = None,
        stride: int | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        super().__init__(
            policy,
            env,
            learning_rate,
            buffer_size=buffer_size,
            learning_starts=learning_starts,
            batch_size=batch_size,
            tau=tau,
            gamma=gamma,
            train_freq=train_freq,
            gradient_steps=gradient_steps,
            n_steps=n_steps,
            policy_kwargs=policy_kwargs,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=device,
            support_multi_env=True,
            seed=seed,
            sde_support=False,
        )
        self.sequence_length, self.burn_in = sequence_length, burn_in
        self.ent_coef, self.target_entropy = ent_coef, target_entropy
        self.max_grad_norm, self.stride = max_grad_norm, stride
        self._last: _Last | None = None
        if _init_setup_model:
            self._setup_model()

    @staticmethod
    def _wrap_env(env: GymEnv, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        """A vectorised environment whose text is encoded; `UserError` unless its actions are bounded and real."""
        space = env.action_space
        if not isinstance(space, spaces.Box):
            raise UserError(f"SequenceSAC needs Box actions, not {space}; use SequencePPO for discrete ones")
        if not np.isfinite([space.low, space.high]).all():
            raise UserError(f"SequenceSAC needs actions with finite bounds, not {space}; {bounded_by_wrapper(space)}")
        return SequencePPO._wrap_env(env, verbose, monitor_wrapper)

    # --- building --------------------------------------------------------------------------------

    def _setup_model(self) -> None:
        for name, least in (("sequence_length", 1), ("burn_in", 0), ("n_steps", 1), ("batch_size", 1)):
            if getattr(self, name) < least:
                raise UserError(f"{name}={getattr(self, name)} must be at least {least}")
        if self.stride is None:
            self.stride = max(1, self.sequence_length // 4)
        if self.stride < 1:
            raise UserError(f"stride={self.stride} must be at least 1")
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        self._convert_train_freq()
        self.policy = self.policy_class(  # type: ignore[assignment]
            self.observation_space, self.action_space, self.lr_schedule, **self.policy_kwargs
        ).to(self.device)
        self.replay_buffer = SequenceReplay(
            self.buffer_size,
            self.observation_space,
            self.action_space,
            self.n_envs,
            rows=self.burn_in + self.sequence_length + 1,  # the last row only says what the one before led to
            stride=self.stride,
            state_shapes=[network.state_shape for network in self.policy.networks],
            device=self.device,
        )
        dims = int(np.prod(self.action_space.shape))
        self.temperature = Temperature(self.ent_coef, self.target_entropy, dims, self.lr_schedule(1)).to(self.device)

    # --- collecting ------------------------------------------------------------------------------

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        tb_log_name: str = "run",
        progress_bar: bool = False,
    ) -> tuple[int, BaseCallback]:
        if reset_num_timesteps or self._last_obs is None:  # the environments are about to be reset
            self.replay_buffer.cut()
            self._last = None
        prepared = super()._setup_learn(total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar)
        assert self.env is not None
        refuse_unusable_start(self.env, self._last_obs)
        return prepared

    def collect_rollouts(  # type: ignore[override]
        self,
        env: VecEnv,
        callback: BaseCallback,
        train_freq: TrainFreq,
        replay_buffer: SequenceReplay,
        action_noise: ActionNoise | None = None,
        learning_starts: int = 0,
        log_interval: int | None = None,
    ) -> RolloutReturn:
        """Explore for `train_freq` and keep it in the replay; see stable-baselines3."""
        self.policy.set_training_mode(False)
        if train_freq.frequency < 1 or (train_freq.unit.value == "episode" and env.num_envs > 1):
            raise UserError(
                f"train_freq={tuple(train_freq)} must be at least 1, and in steps with several environments"
            )
        callback.on_rollout_start()
        all_seen: list[dict[str, Tensor]] = []
        steps = episodes = 0
        go_on = True
        while go_on and should_collect_more_steps(train_freq, steps, episodes):
            seen, actions, states = self._explore(learning_starts)
            all_seen.append(seen)
            new_obs, rewards, dones, infos = env.step(actions)
            refuse_unusable_step(env, new_obs, rewards, dones, infos, self.num_timesteps // self.n_envs + 1)
            self._store(replay_buffer, actions, new_obs, rewards, dones, infos, states)
            self.num_timesteps += env.num_envs
            steps += 1
            self._update_info_buffer(infos, dones)
            self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)
            for _ in range(int(dones.sum())):
                episodes += 1
                self._episode_num += 1
                if log_interval is not None and self._episode_num % log_interval == 0:
                    self.dump_logs()
            callback.update_locals(locals())
            go_on = callback.on_step()
        self.policy.update_statistics({k: torch.cat([seen[k] for seen in all_seen]) for k in all_seen[0]})
        if go_on:
            callback.on_rollout_end()
        return RolloutReturn(steps * env.num_envs, episodes, go_on)

    def _explore(self, learning_starts: int) -> tuple[dict[str, Tensor], np.ndarray, list[Tensor]]:
        """What the networks see now, the actions to take, and the states after it."""
        if self._last is None:
            self._last = {
                "states": [network.initial_state(self.n_envs) for network in self.policy.networks],
                "actions": torch.zeros(self.n_envs, *self.action_space.shape, device=self.device),
                "rewards": torch.zeros(self.n_envs, device=self.device),
            }
        last, starts = self._last, torch.as_tensor(self._last_episode_starts, device=self.device)
        seen = self.policy.seen(self.policy.tensors(self._last_obs), last["actions"], last["rewards"], starts)
        chosen, states = self.policy.explore(seen, last["states"], starts)
        low, high = self.action_space.low, self.action_space.high
        actions = chosen.numpy(force=True)
        if self.num_timesteps < learning_starts:
            actions = low + (high - low) * torch.rand(actions.shape).numpy()
        return seen, np.clip(actions, low, high).astype(np.float32), states

    def _store(
        self,
        replay: SequenceReplay,
        actions: np.ndarray,
        new_obs: Any,
        rewards: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
        states: list[Tensor],
    ) -> None:
        """Keep the step as the environments gave it, before any normalisation, and move on."""
        normaliser = self._vec_normalize_env
        observation, kept_rewards = self._last_obs, rewards
        if normaliser is not None:
            observation, kept_rewards = self._last_original_obs, normaliser.get_original_reward()
        cut = np.array([bool(i.get("TimeLimit.truncated", False)) for i in infos]) & dones
        assert self._last is not None
        assert self._last_episode_starts is not None
        replay.add(
            _entries(observation), actions, kept_rewards, dones & ~cut, self._last_episode_starts, self._last["states"]
        )
        for i in np.flatnonzero(cut):
            final = infos[i]["terminal_observation"]
            if normaliser is not None:
                final = normaliser.unnormalize_obs(final)
            replay.add_final(int(i), _entries(final), [state[i : i + 1] for state in states])
        self._last_obs = new_obs
        if normaliser is not None:
            self._last_original_obs = normaliser.get_original_obs()
        self._last_episode_starts = dones
        self._last = {
            "states": states,
            "actions": torch.as_tensor(actions, device=self.device),
            "rewards": torch.as_tensor(rewards, dtype=torch.float32, device=self.device),
        }

    # --- learning --------------------------------------------------------------------------------

    def train(self, gradient_steps: int, batch_size: int = 16) -> None:
        """`gradient_steps` updates; none while no environment has gone through a whole sequence."""
        if not self.replay_buffer.available().any():
            return
        self.policy.set_training_mode(True)
        self._update_learning_rate([self.policy.optimizer, self.policy.critic_optimizer, self.temperature.optimizer])
        update = SoftUpdate(self.burn_in, self.n_steps, self.gamma, self.tau, self.max_grad_norm)
        log = [
            update(self.policy, self.temperature, self.replay_buffer.sample(batch_size, self._vec_normalize_env))
            for _ in range(gradient_steps)
        ]
        refuse_diverged(log[-1])
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        for name in log[0]:
            self.logger.record(f"train/{name}", float(np.mean([entry[name] for entry in log])))

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 4,
        tb_log_name: str = "SequenceSAC",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SequenceSAC:
        """Train for `total_timesteps` environment steps; see stable-baselines3."""
        return super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)

    # --- keeping ---------------------------------------------------------------------------------

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_last"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        optimizers = ["policy.optimizer", "policy.critic_optimizer", "temperature.optimizer"]
        return ["policy", "temperature", *optimizers], []

    def save_replay_buffer(self, path: Any) -> None:
        """Tensors and plain values only."""
        torch.save(self.replay_buffer.state_dict(), path)

    def load_replay_buffer(self, path: Any, truncate_last_traj: bool = True) -> None:
        """What `save_replay_buffer` wrote; episodes that were under way then are not gone on with."""
        try:
            state = torch.load(path, weights_only=True)
        except Exception as error:
            raise UserError(f"replay {str(path)!r} cannot be read ({type(error).__name__})") from None
        self.replay_buffer.load_state_dict(state)
        if truncate_last_traj:
            self.replay_buffer.cut()

    def resume_state(self) -> dict[str, Any]:
        """Everything of the algorithm that the next step depends on, the replay included."""
        original = {} if self._last_original_obs is None else _entries(self._last_original_obs)
        return {
            **self.get_parameters(),
            "ent_coef": self.ent_coef,
            "n_updates": self._n_updates,
            **collection_state(self),
            "original_observation": {k: torch.from_numpy(v.copy()) for k, v in original.items()},
            "last": self._last,
            "replay": self.replay_buffer.state_dict(),
        }

    def set_resume_state(self, state: dict[str, Any]) -> None:
        """Go on from what `resume_state` returned; `UserError` when it is of another policy or replay."""
        self.replay_buffer.load_state_dict(state["replay"])
        if state["ent_coef"] != self.ent_coef:
            raise UserError(
                f"ent_coef={self.ent_coef!r} must be that of the checkpoint, {state['ent_coef']!r}; "
                "resume with the config of the run"
            )
        policy = self.policy
        load_weights(policy, state["policy"], policy.optimizer, state["policy.optimizer"])
        load_weights(policy, state["policy"], policy.critic_optimizer, state["policy.critic_optimizer"])
        temperature = self.temperature
        load_weights(temperature, state["temperature"], temperature.optimizer, state["temperature.optimizer"])
        self._n_updates = state["n_updates"]
        set_collection_state(self, state)
        if state["original_observation"]:
            arrays: dict[str, np.ndarray] = {k: v.numpy() for k, v in state["original_observation"].items()}
            self._last_original_obs = arrays if isinstance(self.observation_space, spaces.Dict) else arrays[SINGLE]
        last = state["last"]
        if last is None:
            self._last = None
        else:
            states, actions, rewards = last["states"], last["actions"], last["rewards"]
            self._last = {
                "states": [s.to(self.device) for s in states],
                "actions": actions.to(self.device),
                "rewards": rewards.to(self.device),
            }

    @property
    def sequence_policy(self) -> Policy:
        """The trained actor, without stable-baselines3 around it."""
        return self.policy.net

    def export(self, path: str | Path, *, rate_hz: float | None = None) -> ParityReport:
        """Write the deployable artifact; `rate_hz` defaults to the environment's `metadata["render_fps"]`."""
        return export_trained(self, self.policy.net, path, rate_hz)


def _entries(observation: Any) -> dict[str, np.ndarray]:
    return observation if isinstance(observation, dict) else {SINGLE: np.asarray(observation)}
