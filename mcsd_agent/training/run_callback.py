"""What happens between two updates of a run: progress, evaluation, the best policy, checkpoints, the curve."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, TensorBoardOutputFormat
from torch.utils.tensorboard import SummaryWriter

from mcsd_agent.training.checkpoint import checkpoint_of
from mcsd_agent.training.checkpoint_file import write_whole
from mcsd_agent.training.config import TrainConfig
from mcsd_agent.training.curves import plot_own_curve
from mcsd_agent.training.evaluation import Evaluation, evaluate
from mcsd_agent.training.random_state import untouched_random_state
from mcsd_agent.training.run_folder import RunFolder
from mcsd_agent.training.runs import Report

#: First seed of evaluations while training: not those of the final one, which must not have been chosen by.
_EVALUATION_SEEDS = 2_000_000
_SECONDS_BETWEEN_REPORTS = 0.2
_SECONDS_BETWEEN_CURVES = 10.0

#: Told the steps so far and how the policy did; False ends training.
OnEvaluation = Callable[[int, Evaluation], bool]


class RunCallback(BaseCallback):
    """Writes what a run leaves behind; it draws no random numbers of training's.

    The boundary between two updates is where a rollout starts. `state` and `set_state` are its own part of a
    checkpoint.
    """

    def __init__(
        self, run: RunFolder, config: TrainConfig, report: Report, restorable: bool, on_evaluation: OnEvaluation | None
    ) -> None:
        super().__init__()
        self.run_folder, self.config, self.report, self.restorable = run, config, report, restorable
        self.on_evaluation = on_evaluation
        self.saved = self.tried = self.evaluated = 0
        self.best: float | None = None
        self.stopped = False
        self.began_at, self.began_with = time.monotonic(), 0
        self.reported = self.drawn = 0.0

    def state(self) -> dict[str, Any]:
        """Plain values."""
        return {"evaluated": self.evaluated, "best": self.best}

    def set_state(self, state: dict[str, Any], timesteps: int) -> None:
        """Go on at a checkpoint with so many steps."""
        self.evaluated, self.best = state["evaluated"], state["best"]
        self.saved = self.tried = timesteps

    # --- when ------------------------------------------------------------------------------------

    def _on_training_start(self) -> None:
        self.began_at, self.began_with = time.monotonic(), self.num_timesteps

    def _on_step(self) -> bool:
        return not self.stopped

    def _on_rollout_start(self) -> None:
        # Here the update of the last rollout is complete.
        every = self.config.evaluation_steps
        if every and self.num_timesteps // every > self.evaluated // every:
            self._evaluate()
        if self.num_timesteps - self.tried >= self.config.checkpoint_steps:
            self.save()

    def _on_rollout_end(self) -> None:
        now = time.monotonic()
        if now - self.reported >= _SECONDS_BETWEEN_REPORTS or self.num_timesteps >= self.config.timesteps:
            self.reported = now
            self._report(now)

    def _on_training_end(self) -> None:
        if self.stopped:  # in the middle of a rollout
            return
        if self.config.evaluation_steps and self.evaluated < self.num_timesteps:
            self._evaluate()
        self.save()

    # --- what ------------------------------------------------------------------------------------

    def _report(self, now: float) -> None:
        recent = [e["r"] for e in self.model.ep_info_buffer or ()]
        rate = (self.num_timesteps - self.began_with) / max(now - self.began_at, 1e-9)
        mean = f"return {np.mean(recent):.2f} over {len(recent)} episodes" if recent else "no episode has ended yet"
        best = "" if self.best is None else f", best {self.best:.2f}"
        share = min(1.0, self.num_timesteps / self.config.timesteps)  # the last rollout may go beyond
        self.report("train", share, f"{self.num_timesteps} steps, {rate:.0f}/s, {mean}{best}")

    def _evaluate(self) -> None:
        policy = self.model.sequence_policy  # type: ignore[attr-defined]
        was_training = policy.training
        policy.eval()
        with untouched_random_state():
            (result,) = evaluate(
                policy,
                self.config.env,
                self.config.evaluation_kwargs,
                self.config.options,
                episodes=self.config.eval_episodes,
                seed=_EVALUATION_SEEDS,
            )
        policy.train(was_training)
        self.evaluated = self.num_timesteps
        for name, value in result.to_json().items():
            if isinstance(value, float):
                self.logger.record(f"eval/{name}", value)
        low, high = result.return_interval
        self.logger.record("eval/return_low", low)
        self.logger.record("eval/return_high", high)
        self.logger.dump(self.num_timesteps)
        if self.best is None or result.mean_return > self.best:
            self.best = result.mean_return
            best = {"policy": policy.state_dict(), "timesteps": self.num_timesteps, "return_mean": self.best}
            self._try(lambda: write_replaced(self.run_folder.best, best), "best.pt")
        self._draw()
        if self.on_evaluation is not None:
            self.stopped = not self.on_evaluation(self.num_timesteps, result)

    def _draw(self) -> None:
        if time.monotonic() - self.drawn >= _SECONDS_BETWEEN_CURVES:
            self._try(lambda: plot_own_curve(self.run_folder.path), "curve.png")
            self.drawn = time.monotonic()

    def save(self) -> None:
        """A checkpoint; one that cannot be written is said so, and training goes on."""
        self.tried = self.num_timesteps
        data = {**checkpoint_of(self.model, restorable=self.restorable), "run": self.state()}
        if self._try(lambda: self.run_folder.save_checkpoint(data), "checkpoint.pt"):
            self.saved = self.num_timesteps

    def _try(self, write: Callable[[], Any], name: str) -> bool:
        try:
            write()
        except OSError as error:
            stays = f"; that of {self.saved} steps stays" if name == "checkpoint.pt" and self.saved else ""
            self.report("note", -1.0, f"{name} could not be written: {error.strerror or error}{stays}")
            return False
        return True


def write_replaced(path: Path, data: dict[str, Any]) -> None:
    """Write a checksummed file at once or not at all."""
    part = path.with_suffix(".part")
    try:
        write_whole(part, data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


# ------------------------------------------------------------------------------------------------ the log


def log_outputs(run: RunFolder, resumed_at: int | None) -> list[KVWriter]:
    """stable-baselines3's log into metrics.csv and TensorBoard; what came after `resumed_at` is forgotten in both."""
    if resumed_at is not None:
        run.drop_metrics_after(resumed_at)
    folder = str(run.path / "tensorboard")
    return [_TensorBoard(folder, resumed_at), _Table(run)]


class _TensorBoard(TensorBoardOutputFormat):
    """Tells TensorBoard which steps are about to come again."""

    def __init__(self, folder: str, resumed_at: int | None) -> None:
        # Files are read in the order of their names, which hold the second: that of this process has to come last.
        newest = max((int(p.name.split(".")[3]) for p in Path(folder).glob("events.out.tfevents.*")), default=0)
        if newest >= int(time.time()):
            time.sleep(min(2.0, newest + 1 - time.time()))  # no longer than that, whatever was done to the clock
        self.writer = SummaryWriter(folder, purge_step=None if resumed_at is None else resumed_at + 1)
        self._is_closed = False


class _Table(KVWriter):
    """Rows of metrics.csv: what was measured and not how long it took."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0) -> None:
        row = {k: float(v) for k, v in key_values.items() if not k.startswith("time/")}
        if row:
            self.run.add_metrics({"timesteps": step, **row})

    def close(self) -> None:
        pass
