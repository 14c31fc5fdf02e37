"""Learning curves and final policies of configs for `mcsd-agent train`, over seeds and beside other backbones.

    python benchmarks/learning.py --config configs/cartpole_novel.yaml --seeds 5 --jobs 2
    python benchmarks/learning.py --config configs/memory/*.yaml --controls gru,none --jobs 16 --minutes 55
    python benchmarks/learning.py --plot benchmarks/results/learning_cartpole_novel.json

Every seed of every model is one process with one thread. Its final policy plays `--episodes` episodes on seeds that
training never uses, with its most probable actions. A control has the config's hyper-parameters and another backbone,
of the width with which the policy has most nearly as many parameters. After a colon it may have settings of its own;
then `;` is between controls (`gru:ppo.learning_rate=3e-4,policy.width=96;none`).

Each config gets `learning_NAME.json` and a picture in `--out`. They are written again whenever a seed ends, so that
little is lost when time runs out; `--resume` keeps the seeds that are there and trains the others.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from mcsd_agent.errors import UserError
from mcsd_agent.strict import to_dict
from mcsd_agent.training.config import TrainConfig, load_config
from mcsd_agent.training.statistics import seeds_interval

#: Points of a training curve: each is the mean return of the episodes that ended since the point before.
_POINTS = 100
_COLUMNS = "{:<26} {:<30} {:>4} {:>9} {:>9} {:>9} {:>8} {:>8}"
_PACKAGES = ("torch", "numpy", "gymnasium", "stable-baselines3")


@dataclass(frozen=True)
class Job:
    """One seed of one model on one config."""

    path: str
    model: str
    overrides: tuple[str, ...]
    episodes: int

    @property
    def config(self) -> TrainConfig:
        """Checked; `UserError` says what is wrong with it."""
        return load_config(TrainConfig, self.path, self.overrides)


# ------------------------------------------------------------------------------------------------ one run


def train_and_judge(job: Job) -> dict[str, Any]:
    """Train in this process; the row of the result."""
    import torch
    from stable_baselines3.common.callbacks import BaseCallback

    from mcsd_agent.training.evaluation import evaluate
    from mcsd_agent.training.learner import build_learner

    config = job.config
    torch.set_num_threads(config.threads)

    class Returns(BaseCallback):
        """Collects the returns of finished episodes, averaged over equal stretches of training."""

        def __init__(self) -> None:
            super().__init__()
            self.finished: list[float] = []
            self.next = config.timesteps / _POINTS
            self.steps: list[int] = []
            self.means: list[float] = []

        def _on_step(self) -> bool:
            self.finished += [info["episode"]["r"] for info in self.locals["infos"] if "episode" in info]
            if self.finished and self.num_timesteps >= self.next:
                self.next = self.num_timesteps + config.timesteps / _POINTS
                self.steps.append(self.num_timesteps)
                self.means.append(round(float(np.mean(self.finished)), 4))
                self.finished = []
            return True

    returns, began = Returns(), time.monotonic()
    model = build_learner(config)
    model.learn(config.timesteps, returns)
    model.get_env().close()
    used = os.times()  # environments in processes of their own count as well
    cpu_seconds, seconds = sum(used[:4]), time.monotonic() - began
    totals: list[float] = []
    (judged, *_) = evaluate(
        model.sequence_policy,
        config.env,
        config.evaluation_kwargs,
        config.options,
        episodes=job.episodes,
        seed=config.evaluation.seed,
        on_episode=lambda episode: totals.append(episode.total_reward),
    )
    return {
        "seed": config.seed,
        "steps": model.num_timesteps,
        "mean_return": judged.mean_return,
        "std_return": float(np.std(totals)),
        "min_return": float(np.min(totals)),
        "success": None if judged.success is None else judged.success.value,
        "best_training_return": max(returns.means, default=None),
        "params": sum(p.numel() for p in model.sequence_policy.parameters()),
        "cpu_seconds": round(cpu_seconds, 1),
        "seconds": round(seconds, 1),
        "curve": {"steps": returns.steps, "returns": returns.means},
    }


def run_in_a_process(job: Job) -> dict[str, Any]:
    """The row of a run, or `{"error": …}` when its process ends without one."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "row.json"
        command = [sys.executable, __file__, "--run", str(out), "--config", job.path, "--episodes", str(job.episodes)]
        command += [x for s in job.overrides for x in ("--set", s)]
        threads = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **threads}, check=False)
        if out.is_file():
            return json.loads(out.read_text())
        return {"error": (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]}


# ----------------------------------------------------------------------------------------------- controls


def overrides_of(path: str, model: str, common: list[str]) -> list[str]:
    """The settings that make a model out of a config: its backbone, its own settings, and else equal parameters."""
    backbone, _, own = model.partition(":")
    settings = [*common, f"policy.backbone={backbone}", *(own.split(",") if own else [])]
    if any(s.startswith("policy.width=") for s in settings[len(common) :]):
        return settings
    original = load_config(TrainConfig, path, common)
    config = load_config(TrainConfig, path, settings)
    if config.policy.backbone == original.policy.backbone:
        return settings
    return [*settings, f"policy.width={_equal_width(config, _parameters(original))}"]


def _equal_width(config: TrainConfig, parameters: int) -> int:
    """The multiple of 4 at which the policy has most nearly so many parameters."""
    from dataclasses import replace

    def off(width: int) -> int:
        return abs(_parameters(replace(config, policy=replace(config.policy, width=width))) - parameters)

    widths = range(8, 2 * config.policy.width + 128, 4)
    low, high = 0, len(widths) - 1  # parameters grow with the width, so that the distance has one minimum
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if off(widths[middle]) <= off(widths[middle + 1]) else (middle + 1, high)
    return widths[low]


def _parameters(config: TrainConfig) -> int:
    from mcsd_agent.policy import Policy
    from mcsd_agent.spaces import spec_from_space
    from mcsd_agent.training.environments import make_vec
    from mcsd_agent.training.instructions import policy_specs

    env = make_vec(config.env, config.env_kwargs, config.options)
    specs, vocabulary = policy_specs(env.observation_space)
    policy = Policy(specs, spec_from_space(env.action_space), config.policy, vocabulary)
    env.close()
    return sum(p.numel() for p in policy.parameters())


# ---------------------------------------------------------------------------------------------- the result


class Result:
    """What is known of one config so far, and its file."""

    def __init__(self, path: str, options: argparse.Namespace, models: dict[str, list[str]]) -> None:
        config = load_config(TrainConfig, path, options.set)
        name = Path(path).stem + (f"_{options.name}" if options.name else "")
        self.file = options.out / f"learning_{name}.json"
        self.document: dict[str, Any] = {
            "config": path,
            "command": shlex.join(["python", "benchmarks/learning.py", *sys.argv[1:]]),
            "env": config.env,
            "steps": config.timesteps,
            "episodes": options.episodes,
            "settings": {k: v for k, v in to_dict(config).items() if k not in ("seed", "tune")},
            "versions": {"python": platform.python_version(), **{p: version(p) for p in _PACKAGES}},
            "models": {m: {"overrides": overrides, "runs": []} for m, overrides in models.items()},
        }
        if options.resume and self.file.is_file():
            before = json.loads(self.file.read_text())
            for key in ("settings", "episodes"):
                if before[key] != json.loads(json.dumps(self.document[key])):
                    raise UserError(f"{self.file} has other {key} than {path}; train it without --resume")
            for model, entry in before["models"].items():
                if entry["overrides"] != models.get(model, entry["overrides"]):
                    raise UserError(f"{self.file} has other settings of {model}; train it without --resume")
                self.document["models"][model] = entry

    def has(self, model: str, seed: int) -> bool:
        """Whether this run is there already."""
        return any(r["seed"] == seed for r in self.document["models"][model]["runs"])

    def add(self, model: str, row: dict[str, Any]) -> None:
        """One more run: means and intervals over the seeds so far, and the file."""
        entry = self.document["models"][model]
        entry["runs"] = sorted([*entry["runs"], row], key=lambda r: r["seed"])
        mean, low, high = seeds_interval([r["mean_return"] for r in entry["runs"]])
        # The spread over all episodes of all seeds, which is what published tables give after the ±.
        spread = np.mean([r["std_return"] ** 2 + (r["mean_return"] - mean) ** 2 for r in entry["runs"]]) ** 0.5
        entry |= {"params": row["params"], "mean": mean, "interval_95": [low, high], "std_over_episodes": float(spread)}
        self.write()

    def write(self) -> None:
        """The whole file anew, in one piece."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.document, indent=1)
        text = re.sub(r"\[[^][{}]*\]", lambda m: " ".join(m[0].split()), text)  # a list of numbers on one line
        partial = self.file.with_suffix(".part")
        partial.write_text(text + "\n")
        partial.replace(self.file)


def plot(document: dict[str, Any], path: Path) -> None:
    """Training curves: mean over the seeds with its 95 % interval, per model."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6.5, 4), constrained_layout=True)
    for model, entry in document["models"].items():
        curves = [r["curve"] for r in entry["runs"] if r["curve"]["steps"]]
        if not curves:
            continue
        start, end = max(c["steps"][0] for c in curves), min(c["steps"][-1] for c in curves)
        steps = np.linspace(start, end, _POINTS)
        values = np.array([np.interp(steps, c["steps"], c["returns"]) for c in curves])
        mean, low, high = np.array([seeds_interval(column) for column in values.T]).T
        name = {"none": "no memory"}.get(model, model)
        (line,) = axes.plot(steps, mean, label=f"{name}: final {entry['mean']:.4g} ({len(curves)} seeds)")
        axes.fill_between(steps, low, high, alpha=0.2, color=line.get_color(), linewidth=0)
    axes.set(xlabel="environment steps", ylabel="return of training episodes", title=document["env"])
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=110)
    plt.close(figure)


# ----------------------------------------------------------------------------------------------- the command


def measure(options: argparse.Namespace) -> None:
    """Run everything, seed by seed, so that all models are equally far when time runs out."""
    began = time.monotonic()
    results: dict[str, Result] = {}
    jobs: list[tuple[Job, str, int]] = []
    for path in options.config:
        own = load_config(TrainConfig, path, options.set).policy.backbone
        controls = options.controls.split(";" if ":" in options.controls else ",")
        models = {m: overrides_of(path, m, options.set) for m in [own, *controls] if m}
        results[path] = Result(path, options, models)
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            for model in models:
                if not results[path].has(model, seed):
                    overrides = (*models[model], f"seed={seed}", "threads=1")
                    jobs.append((Job(path, model, overrides, options.episodes), model, seed))
    jobs.sort(key=lambda entry: entry[2])

    def run(entry: tuple[Job, str, int]) -> dict[str, Any] | None:
        late = options.minutes is not None and time.monotonic() - began > 60 * options.minutes
        return None if late else run_in_a_process(entry[0])

    print(_COLUMNS.format("config", "model", "seed", "return", "lowest", "best", "params", "CPU-s"), flush=True)
    failed = left = 0
    with ThreadPoolExecutor(options.jobs) as pool:
        running = {pool.submit(run, entry): entry for entry in jobs}
        for future in as_completed(running):
            job, model, seed = running[future]
            row = future.result()
            if row is None:
                left += 1
            elif "error" in row:
                failed += 1
                print(
                    f"{Path(job.path).stem}, {model}, seed {seed} failed: {row['error']}", file=sys.stderr, flush=True
                )
            else:
                results[job.path].add(model, row)
                figures = [f"{row[k]:.2f}" for k in ("mean_return", "min_return")]
                best = "" if row["best_training_return"] is None else f"{row['best_training_return']:.2f}"
                cells = [Path(job.path).stem, model, seed, *figures, best, row["params"], f"{row['cpu_seconds']:.0f}"]
                print(_COLUMNS.format(*cells), flush=True)
    for result in results.values():
        summarise(result)
    if left:
        print(f"{left} runs were not started within {options.minutes} minutes; --resume trains them")
    if failed:
        raise SystemExit(f"{failed} runs failed")


def summarise(result: Result) -> None:
    """Print means with intervals; draw where matplotlib is installed."""
    for model, entry in result.document["models"].items():
        if entry["runs"]:
            low, high = entry["interval_95"]
            spread = f"± {entry['std_over_episodes']:.2f} over episodes"
            returns = f"{entry['mean']:.2f} [{low:.2f}, {high:.2f}], {spread}"
            print(f"{result.document['env']}, {model}: {returns}, {len(entry['runs'])} seeds")
    if any(entry["runs"] for entry in result.document["models"].values()):
        try:
            plot(result.document, result.file.with_suffix(".png"))
        except ModuleNotFoundError:
            print(f"no matplotlib here; elsewhere: python benchmarks/learning.py --plot {result.file}")


def main() -> None:
    """Parse arguments, run, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", nargs="+", default=[], metavar="FILE.yaml")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="processes at once")
    parser.add_argument(
        "--controls", default="", metavar="BACKBONE[:KEY=VALUE...],...", help="';' between, if with ','"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--episodes", type=int, default=100, help="that judge a final policy")
    parser.add_argument("--minutes", type=float, help="start no more runs after so long")
    parser.add_argument("--resume", action="store_true", help="keep the runs that the result has")
    parser.add_argument("--name", default="", help="added to the names of the results")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--plot", nargs="+", type=Path, default=[], metavar="RESULT.json", help="only draw")
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    for path in options.plot:
        plot(json.loads(path.read_text()), path.with_suffix(".png"))
    if options.run is not None:
        row = train_and_judge(Job(options.config[0], "", tuple(options.set), options.episodes))
        options.run.write_text(json.dumps(row))
    elif options.config:
        measure(options)
    elif not options.plot:
        parser.error("give --config or --plot")


if __name__ == "__main__":
    try:
        main()
    except UserError as problem:
        raise SystemExit(f"error: {problem}") from None
