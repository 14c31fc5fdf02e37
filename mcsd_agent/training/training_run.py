"""One reinforcement learning run from config to artifact, which can be killed at any moment and gone on with."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from stable_baselines3.common.logger import Logger

from mcsd_agent.artifact import ParityReport
from mcsd_agent.errors import UserError
from mcsd_agent.policy import Policy
from mcsd_agent.training.checkpoint import restore_checkpoint
from mcsd_agent.training.checkpoint_file import Torn, read_whole
from mcsd_agent.training.config import TrainConfig
from mcsd_agent.training.environment_state import Restorability, find_method, try_batched
from mcsd_agent.training.environments import make_env, try_environment
from mcsd_agent.training.evaluation import Evaluation
from mcsd_agent.training.fine_tuning import encoder_of, start_from
from mcsd_agent.training.instructions import has_text
from mcsd_agent.training.learner import build_learner, vectorised_environments
from mcsd_agent.training.random_state import untouched_random_state
from mcsd_agent.training.run_callback import OnEvaluation, RunCallback, log_outputs
from mcsd_agent.training.run_folder import RunFolder
from mcsd_agent.training.runs import Purpose, Report, control_rate, finish, finish_best, refuse_unjudgeable
from mcsd_agent.training.video import can_be_filmed, record_video

#: What the system says when there is no room, or no permission, to write.
_CANNOT_WRITE = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO}

_MAX_FRAMES = 3000


def check(config: TrainConfig) -> None:
    """`UserError` for an environment that there is not, that does not keep to Gymnasium's interface, that states no
    control rate or that refuses the arguments it is to be judged with: before a folder is made."""
    control_rate(config.env, config.env_kwargs, config.rate_hz, config.options)
    with untouched_random_state():
        try_environment(config.env, config.env_kwargs, config.options)
        refuse_unjudgeable(config.env, config.env_kwargs, config.evaluation, config.options)


def train(
    config: TrainConfig, run: RunFolder, report: Report, *, resume: bool = False
) -> tuple[Policy, list[Evaluation], ParityReport]:
    """The configured algorithm with checkpoints; then the artifact, evaluation on unseen seeds, and a video.

    With `resume` a run goes on from its last whole checkpoint, exactly where the environments can be restored
    (`environment.json` says so), and from the beginning where there is none. `UserError` for bad input, and when
    the folder cannot be written to.
    """
    rate = control_rate(config.env, config.env_kwargs, config.rate_hz, config.options)
    with run.in_use(), _writable(run):
        model = learn(config, run, report, resume=resume)
        policy = model.sequence_policy.cpu()  # nothing is learned any more
        purpose = Purpose(config.env, config.evaluation_kwargs, config.options, config.evaluation, rate)
        results, parity = finish(policy, purpose, run, report)
        best = _best(run)
        if best is not None:
            results += finish_best(policy, best, purpose, run, report)
        _film(policy, config, run, report)
        run.write_json("finished.json", {"timesteps": config.timesteps})
        return policy, results, parity


def learn(
    config: TrainConfig,
    run: RunFolder,
    report: Report,
    *,
    resume: bool = False,
    on_evaluation: OnEvaluation | None = None,
) -> Any:
    """The trained algorithm, its environments closed; `on_evaluation` may end training by returning False."""
    torch.set_num_threads(config.threads)
    checkpoint = None
    if resume and run.has_checkpoint:
        checkpoint = run.load_checkpoint(lambda text: report("note", -1.0, text))
    elif resume:
        report("note", -1.0, f"run {str(run.path)!r} has no checkpoint yet: it starts from the beginning")
    restorability = _restorability(config, run, report, known=checkpoint is not None)
    # A policy that is trained on goes on reading text as it does; without text there is nothing to look up again.
    encoder = encoder_of(config) if checkpoint is None or _reads_text(config) else None
    model = build_learner(config, restorability.method, encoder)
    try:
        if config.start_from is not None and checkpoint is None:
            start_from(model, config.start_from)
        callback = RunCallback(run, config, report, restorability.method is not None, on_evaluation)
        model.set_logger(Logger(None, []))
        if checkpoint is not None:
            callback.set_state(checkpoint["run"], checkpoint["timesteps"])
            if not restore_checkpoint(model, checkpoint, seed=config.seed):
                report("note", -1.0, f"{config.env} cannot be restored: new episodes begin in its environments")
        # Only now that the checkpoint is known to fit the config is anything in the folder changed.
        if resume:
            run.write_config("train", config)
        model.logger.output_formats = log_outputs(run, model.num_timesteps if resume else None)
        if model.num_timesteps < config.timesteps:
            # The config is written, and the checkpoint is that of the artifact: a kill from here on loses no policy.
            if checkpoint is not None:
                run.drop_results()
            model.learn(config.timesteps - model.num_timesteps, callback, reset_num_timesteps=checkpoint is None)
        return model
    finally:
        model.get_env().close()
        model.logger.close()


def _restorability(config: TrainConfig, run: RunFolder, report: Report, *, known: bool) -> Restorability:
    """Found out by trial at the beginning, and then read from the folder."""
    stored = run.read_json("environment.json") if known else None
    if stored is not None:
        return Restorability(stored["method"], stored["reason"])
    with untouched_random_state():
        if is_real(config):
            found = Restorability(None, "it is real")
        elif config.vectorised == "batched":
            found = try_batched(lambda seed: vectorised_environments(replace(config, n_envs=2, seed=seed)))
        else:
            found = find_method(lambda: make_env(config.env, config.env_kwargs, config.options.without_rewards()))
    run.write_json("environment.json", {"restorable": found.method is not None, **vars(found)})
    if found.method is None:
        report(
            "note", -1.0, f"{config.env} cannot be restored exactly ({found.reason}): a resumed run begins new episodes"
        )
    return found


def _reads_text(config: TrainConfig) -> bool:
    env = make_env(config.env, config.env_kwargs, config.options)
    env.close()
    return has_text(env.observation_space)


def is_real(config: TrainConfig) -> bool:
    """Whether its environment is a robot in real time, which must not be moved to find something out."""
    env = make_env(config.env, config.env_kwargs, config.options)
    env.close()
    return bool(env.metadata.get("real_time"))


def _film(policy: Policy, config: TrainConfig, run: RunFolder, report: Report) -> None:
    """Some episodes as evaluation.mp4, where the environment can be filmed; a renderer that fails fails no run."""
    if not config.video_episodes or not can_be_filmed(config.env, config.evaluation_kwargs):
        return
    report("film", 0.0, f"{config.video_episodes} episodes")
    try:
        frames = record_video(
            policy,
            config.env,
            config.evaluation_kwargs,
            run.path / "evaluation.mp4",
            config.evaluation.seed,
            config.video_episodes,
            config.options,
            _MAX_FRAMES,
        )
        report("film", 1.0, f"{frames} frames")
    except Exception as error:  # whatever a display, a driver or a game library raises
        report("note", -1.0, f"no video: {type(error).__name__}: {' '.join(str(error).split())}")


def _best(run: RunFolder) -> dict[str, Any] | None:
    try:
        return read_whole(run.best) if run.best.is_file() else None
    except Torn:
        return None


@contextmanager
def _writable(run: RunFolder) -> Iterator[None]:
    said = threading.excepthook

    def hook(arguments: threading.ExceptHookArgs) -> None:
        # TensorBoard writes in a thread of its own; what stops it is raised here too, when it is next given something
        if not (isinstance(arguments.exc_value, OSError) and arguments.exc_value.errno in _CANNOT_WRITE):
            said(arguments)

    threading.excepthook = hook
    try:
        yield
    except OSError as error:
        if error.errno not in _CANNOT_WRITE:
            raise
        raise UserError(
            f"run folder {str(run.path)!r} cannot be written to ({error.strerror}); make room, then --resume it"
        ) from None
    finally:
        threading.excepthook = said
