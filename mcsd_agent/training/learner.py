"""From a config to an algorithm with its environments, as stable-baselines3 has them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gymnasium
import torch
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from mcsd_agent.errors import UserError
from mcsd_agent.policy import Policy
from mcsd_agent.runtime.text_encoders import TextEncoder
from mcsd_agent.strict import to_dict
from mcsd_agent.training.config import PPOConfig, SACConfig, TrainConfig
from mcsd_agent.training.environment_state import Method, RestorableEnv
from mcsd_agent.training.environments import make_env, make_vec
from mcsd_agent.training.instructions import encoder_for
from mcsd_agent.training.resume_state import check_weights


def build_learner(config: TrainConfig, method: Method | None = None, encoder: TextEncoder | None = None) -> Any:
    """The configured algorithm, fresh, with its vectorised environments; `UserError` where they do not fit.

    With a `method` each environment can give and take its state (`environment_state`). `encoder` is what reads text,
    where the policy to begin with has one.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UserError("device='cuda': torch finds no CUDA device here; choose 'cpu', or 'auto' for either")
    settings: PPOConfig | SACConfig = config.ppo if config.algorithm == "ppo" else config.sac
    env = vectorised_environments(config, method, encoder)
    if config.normalize_reward:
        env = VecNormalize(env, norm_obs=False, norm_reward=True, gamma=settings.gamma)
    rate = settings.learning_rate
    arguments = {k: v for k, v in to_dict(settings).items() if k not in ("anneal", "learning_rate")}
    try:
        return _algorithm(config.algorithm)(
            "MultiInputPolicy" if isinstance(env.observation_space, gymnasium.spaces.Dict) else "MlpPolicy",
            env,
            learning_rate=LinearSchedule(rate, 0.0, 1.0) if settings.anneal else rate,
            policy_kwargs=to_dict(config.policy),
            seed=config.seed,
            device=config.device,
            **arguments,
        )
    except Exception:
        env.close()
        raise


def trained_policy(config: TrainConfig, weights: dict[str, Any], encoder: TextEncoder | None = None) -> Policy:
    """The deployed network of a run with the given weights; `UserError` when they are of another policy."""
    plain = replace(config, vectorised="sync", n_envs=1, device="cpu", ppo=PPOConfig(), sac=SACConfig())
    model = build_learner(plain, encoder=encoder)
    model.get_env().close()
    policy = model.sequence_policy
    check_weights(policy, weights)
    policy.load_state_dict(weights)
    return policy


def _algorithm(name: str) -> Any:
    if name == "ppo":
        from mcsd_agent.training.sequence_ppo import SequencePPO

        return SequencePPO
    from mcsd_agent.training.sequence_sac import SequenceSAC

    return SequenceSAC


def vectorised_environments(
    config: TrainConfig, method: Method | None = None, encoder: TextEncoder | None = None
) -> VecEnv:
    """The environments of a run; with a `method`, each can give and take its state. Text is encoded by `encoder`, else
    as the config says."""
    if encoder is None and config.policy.encoder.instruction == "sentence":
        probe = make_env(config.env, config.env_kwargs, config.options)
        encoder = encoder_for(probe, "sentence")
        probe.close()
    wrapper: Callable[[gymnasium.Env], gymnasium.Env] | None = None
    if method in ("state", "replay"):

        def wrapper(env: gymnasium.Env) -> gymnasium.Env:
            return RestorableEnv(env, method)

    return make_vec(
        config.env,
        config.env_kwargs,
        config.options,
        config.n_envs,
        config.seed,
        config.vectorised,
        wrapper,
        encoder,
    )
