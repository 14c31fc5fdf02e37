"""Search for hyper-parameters with Optuna: trials that do badly are ended early, and a killed search goes on.

Akiba et al., "Optuna: A next-generation hyperparameter optimization framework", KDD 2019. Trials are drawn by the
tree-structured Parzen estimator, or at random; each is a run of `train` without artifact, in a folder of its own.
"""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.trial import FrozenTrial, Trial, TrialState

from mcsd_agent.errors import UserError
from mcsd_agent.strict import apply_overrides, build, to_dict
from mcsd_agent.training.config import TrainConfig
from mcsd_agent.training.evaluation import Evaluation
from mcsd_agent.training.run_folder import RunFolder
from mcsd_agent.training.runs import Report
from mcsd_agent.training.training_run import learn

#: `kind` in the config.yaml of a search.
TUNE_KIND = "tune"
_KILLED = "killed"
_ROWS_SHOWN = 10


def tune(config: TrainConfig, run: RunFolder, report: Report, *, timeout_s: float | None = None) -> dict[str, Any]:
    """Trials until `tune.trials` are done or no more may begin; writes best.yaml, trials.csv and trials.png.

    Returns the best value and trial, the path of best.yaml, and a table of the best trials. `UserError` when no
    trial came to an end, or for a search space that the config does not have.
    """
    space = config.tune.search_space(config.algorithm)
    _check_space(config, space)
    with run.in_use():
        study = _study(config, run)
        began = time.monotonic()
        while (done := len(_done(study))) < config.tune.trials:
            if timeout_s is not None and time.monotonic() - began >= timeout_s:
                break
            trial = study.ask()
            drawn = {key: _draw(trial, key, entry) for key, entry in space.items()}
            _show(study, report, done, config.tune.trials)
            _run_trial(study, trial, _with(config, drawn), run)
            _write_trials(study, run)
        _show(study, report, len(_done(study)), config.tune.trials)
        return _result(study, config, run)


def _study(config: TrainConfig, run: RunFolder) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.RDBStorage(f"sqlite:///{(run.path / 'study.sqlite').resolve()}")
    study = optuna.create_study(
        storage=storage, study_name="tune", direction="maximize", load_if_exists=True, pruner=_pruner(config)
    )
    for trial in study.get_trials(states=(TrialState.RUNNING,)):  # the search was killed within it
        study._storage.set_trial_user_attr(trial._trial_id, _KILLED, True)
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params)
    seed = config.seed + len(study.trials)  # a search that goes on must not draw what it drew before
    samplers = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
    study.sampler = samplers[config.tune.sampler](seed=seed)
    return study


def _pruner(config: TrainConfig) -> optuna.pruners.BasePruner:
    """Steps are evaluations: 1 to `tune.evaluations`."""
    if config.tune.pruner == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=max(1, config.tune.evaluations // 5))
    if config.tune.pruner == "asha":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    return optuna.pruners.NopPruner()


def _done(study: optuna.Study) -> list[FrozenTrial]:
    ended = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    return [t for t in study.get_trials(deepcopy=False) if t.state in ended and _KILLED not in t.user_attrs]


def _draw(trial: Trial, key: str, entry: Any) -> Any:
    if not isinstance(entry, Mapping):
        return trial.suggest_categorical(key, entry)
    low, high, log, step = entry["low"], entry["high"], bool(entry.get("log")), entry.get("step")
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(key, low, high, log=log, step=step or 1)
    return trial.suggest_float(key, low, high, log=log, step=step)


def _with(config: TrainConfig, values: dict[str, Any]) -> TrainConfig:
    return build(TrainConfig, apply_overrides(to_dict(config), [f"{k}={json.dumps(v)}" for k, v in values.items()]))


def _check_space(config: TrainConfig, space: dict[str, Any]) -> None:
    """Every key on its own, at every choice or both ends of its range: a wrong one must not wait for its trial."""
    for key, entry in space.items():
        for value in (entry["low"], entry["high"]) if isinstance(entry, Mapping) else entry:
            try:
                _with(config, {key: value})
            except UserError as error:
                raise UserError(f"tune.space.{key}={value!r}: {error}") from None


def _run_trial(study: optuna.Study, trial: Trial, config: TrainConfig, run: RunFolder) -> None:
    every = max(1, config.timesteps // config.tune.evaluations)
    config = replace(config, eval_every=every, video_episodes=0, checkpoint_every=config.timesteps)
    folder = RunFolder.create(run.path / "trials" / f"{trial.number:04d}", "train", config)
    last: float | None = None
    pruned = False

    def on_evaluation(steps: int, evaluation: Evaluation) -> bool:
        nonlocal last, pruned
        last = evaluation.mean_return
        trial.report(last, max(1, round(steps / every)))
        pruned = steps < config.timesteps and trial.should_prune()
        return not pruned

    try:
        learn(config, folder, lambda stage, fraction, text: None, on_evaluation=on_evaluation)
    except UserError as error:  # values that do not go together
        trial.set_user_attr("error", str(error))
        study.tell(trial, state=TrialState.FAIL)
        return
    if pruned:
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, last)


def _best(study: optuna.Study) -> FrozenTrial | None:
    complete = [t for t in _done(study) if t.state is TrialState.COMPLETE]
    return max(complete, key=lambda t: t.value or 0.0, default=None)


def _show(study: optuna.Study, report: Report, done: int, trials: int) -> None:
    best = _best(study)
    pruned = sum(t.state is TrialState.PRUNED for t in _done(study))
    text = "no trial has come to its end yet" if best is None else f"best {best.value:.2f} in trial {best.number}"
    early = f" ({pruned} ended early)" if pruned else ""
    report("tune", done / trials, f"{done} of {trials} trials{early}, {text}")


def _write_trials(study: optuna.Study, run: RunFolder) -> None:
    trials = _done(study)
    keys = list(dict.fromkeys(k for t in trials for k in t.params))
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["trial", "state", "return_mean", "evaluations", *keys])
    for t in trials:
        value = t.value if t.value is not None else ""
        writer.writerow([t.number, t.state.name.lower(), value, len(t.intermediate_values), *map(t.params.get, keys)])
    run.write_text("trials.csv", text.getvalue())


def _result(study: optuna.Study, config: TrainConfig, run: RunFolder) -> dict[str, Any]:
    best, trials = _best(study), _done(study)
    if best is None:
        said = next((t.user_attrs["error"] for t in trials if "error" in t.user_attrs), "the time was up")
        raise UserError(f"no trial of {str(run.path)!r} came to an end ({said}); give more time, or another tune.space")
    path = run.path / "best.yaml"
    run.write_text(path.name, yaml.safe_dump(_plain(_with(config, best.params)), sort_keys=False))
    _plot(trials, run.path / "trials.png")
    ranked = sorted((t for t in trials if t.state is TrialState.COMPLETE), key=lambda t: -(t.value or 0.0))
    keys = list(best.params)
    rows = [[str(t.number), f"{t.value:.2f}", *(_short(t.params.get(k)) for k in keys)] for t in ranked[:_ROWS_SHOWN]]
    states = {name: sum(t.state.name == name for t in trials) for name in ("COMPLETE", "PRUNED", "FAIL")}
    return {
        "run": str(run.path),
        "config": str(path),
        "best_value": best.value,
        "best_trial": best.number,
        "best_params": best.params,
        "trials": {name.lower(): count for name, count in states.items()},
        "header": ["trial", "return", *keys],
        "rows": rows,
    }


def _plain(config: TrainConfig) -> dict[str, Any]:
    return json.loads(json.dumps(to_dict(config), default=str))


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _plot(trials: list[FrozenTrial], out: Path) -> None:
    """Every trial's course, and the best return so far."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (courses, history) = plt.subplots(1, 2, figsize=(10, 4), constrained_layout=True)
    for t in trials:
        pruned = t.state is TrialState.PRUNED
        xs = sorted(t.intermediate_values)
        courses.plot(xs, [t.intermediate_values[x] for x in xs], alpha=0.6, color="tab:gray" if pruned else "tab:blue")
    courses.set_xlabel("evaluation")
    courses.set_ylabel("return (grey: pruned)")
    values = {t.number: t.value for t in trials if t.state is TrialState.COMPLETE and t.value is not None}
    history.plot(list(values), list(values.values()), "o")
    history.step(list(values), list(accumulate(values.values(), max)), where="post")
    history.set_xlabel("trial")
    history.set_ylabel("return, and the best so far")
    for axes in (courses, history):
        axes.grid(alpha=0.3)
    figure.savefig(out, dpi=120)
    plt.close(figure)
