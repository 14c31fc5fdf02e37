"""One reinforcement learning run from config to artifact, with checkpoints."""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import HumanOutputFormat, KVWriter
from stable_baselines3.common.utils import LinearSchedule

from mcsd_agent.artifact import ParityReport
from mcsd_agent.errors import UserError
from mcsd_agent.policy import Policy
from mcsd_agent.strict import to_dict
from mcsd_agent.training.config import TrainConfig
from mcsd_agent.training.environments import make_env
from mcsd_agent.training.evaluation import Evaluation
from mcsd_agent.training.instructions import EncodeInstruction, has_text, vocabulary_for
from mcsd_agent.training.run_folder import RunFolder
from mcsd_agent.training.runs import Report, control_rate, finish
from mcsd_agent.training.sequence_ppo import SequencePPO


def train(
    config: TrainConfig, run: RunFolder, report: Report, *, resume: bool = False
) -> tuple[Policy, list[Evaluation], ParityReport]:
    """SequencePPO as configured, with checkpoints; then evaluation and export."""
    torch.set_num_threads(config.threads)
    rate = control_rate(config.env, config.env_kwargs, config.rate_hz)
    settings = {k: v for k, v in to_dict(config.ppo).items() if k not in ("anneal", "learning_rate")}
    probe = make_env(config.env, config.env_kwargs)
    wrapper = None
    if has_text(probe.observation_space):
        vocabulary = vocabulary_for(probe)
        wrapper = lambda env: EncodeInstruction(env, vocabulary)  # noqa: E731
    probe.close()
    vec_env = make_vec_env(
        lambda: make_env(config.env, config.env_kwargs), config.n_envs, seed=config.seed, wrapper_class=wrapper
    )
    model = SequencePPO(
        "MultiInputPolicy" if hasattr(vec_env.observation_space, "spaces") else "MlpPolicy",
        vec_env,
        learning_rate=LinearSchedule(config.ppo.learning_rate, 0.0, 1.0)
        if config.ppo.anneal
        else config.ppo.learning_rate,
        policy_kwargs=to_dict(config.policy),
        tensorboard_log=str(run.path / "tensorboard"),
        seed=config.seed,
        device="cpu",
        **settings,
    )
    callback = _Checkpoints(run, config, report)
    if resume:
        _restore(model, run.load_checkpoint())
    remaining = config.timesteps - model.num_timesteps
    if remaining > 0:
        model.learn(remaining, callback, reset_num_timesteps=not resume)
    callback.save(model)
    vec_env.close()
    return finish(model.sequence_policy, config.env, config.env_kwargs, config.evaluation, rate, run, report)


class _Table(KVWriter):
    """stable-baselines3's log as rows of metrics.csv."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0) -> None:
        if "rollout/ep_rew_mean" in key_values:
            self.run.add_metrics({"timesteps": step, **{k: float(v) for k, v in key_values.items()}})

    def close(self) -> None:
        pass


class _Checkpoints(BaseCallback):
    """Progress reports, and a checkpoint every `checkpoint_every` steps."""

    def __init__(self, run: RunFolder, config: TrainConfig, report: Report) -> None:
        super().__init__()
        self.run_folder, self.config, self.report = run, config, report
        self.saved = 0

    def _on_training_start(self) -> None:
        self.saved = self.num_timesteps
        self.model.logger.output_formats = [
            *(f for f in self.model.logger.output_formats if not isinstance(f, HumanOutputFormat)),
            _Table(self.run_folder),
        ]

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        recent: list[dict[str, float]] = list(self.model.ep_info_buffer or [])
        mean = sum(e["r"] for e in recent) / len(recent) if recent else float("nan")
        done = self.num_timesteps
        self.report(
            "train", done / self.config.timesteps, f"{done} steps, return {mean:.2f} over {len(recent)} episodes"
        )

    def _on_rollout_start(self) -> None:
        # Here the update of the last rollout is complete.
        if self.num_timesteps - self.saved >= self.config.checkpoint_every:
            assert isinstance(self.model, SequencePPO)
            self.save(self.model)

    def save(self, model: SequencePPO) -> None:
        """Weights, optimiser and counters."""
        self.saved = model.num_timesteps
        self.run_folder.save_checkpoint(
            {
                "policy": model.sequence_policy.state_dict(),
                "optimizer": model.policy.optimizer.state_dict(),
                "timesteps": model.num_timesteps,
                "updates": model._n_updates,
                "torch_rng": torch.get_rng_state(),
            }
        )


def _restore(model: SequencePPO, checkpoint: dict[str, Any]) -> None:
    try:
        model.sequence_policy.load_state_dict(checkpoint["policy"])
        model.policy.optimizer.load_state_dict(checkpoint["optimizer"])
    except (KeyError, RuntimeError, ValueError):
        raise UserError(
            "the checkpoint is of another policy than the config; resume with the config of the run"
        ) from None
    model.num_timesteps = int(checkpoint["timesteps"])
    model._n_updates = int(checkpoint["updates"])
    torch.set_rng_state(checkpoint["torch_rng"])
