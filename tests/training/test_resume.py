"""A run that is killed and resumed is, on a CPU, bit for bit the run that was never interrupted."""

from __future__ import annotations

import csv
import os
import random
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from mcsd_agent.errors import UserError
from mcsd_agent.strict import apply_overrides, build
from mcsd_agent.training.checkpoint_file import CheckpointFiles, Torn, read_whole, write_whole
from mcsd_agent.training.config import TrainConfig
from mcsd_agent.training.random_state import random_state, set_random_state, untouched_random_state
from mcsd_agent.training.run_folder import RunFolder
from mcsd_agent.training.stored_policy import load_stored_policy
from mcsd_agent.training.training_run import learn, train

TINY: dict[str, Any] = {
    "env": "mcsd/CartPoleNoVel-v1",
    "n_envs": 4,
    "timesteps": 2048,
    "rate_hz": 50,
    "policy": {"width": 16, "layers": 1},
    "ppo": {"n_steps": 32, "n_epochs": 2},
    "checkpoint_every": 256,
    "eval_every": 512,
    "eval_episodes": 2,
    "evaluation": {"episodes": 2},
    "video_episodes": 0,
}


def tiny(*overrides: str) -> TrainConfig:
    return build(TrainConfig, apply_overrides(TINY, overrides))


class Notes:
    """A report that keeps what a user would be told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, stage: str, fraction: float, text: str) -> None:
        if stage == "note":
            self.lines.append(text)


def finished(path: Path, config: TrainConfig) -> RunFolder:
    run = RunFolder.create(path, "train", config)
    learn(config, run, Notes())
    return run


def interrupted(path: Path, config: TrainConfig, after: int) -> RunFolder:
    """A run that ended in the middle of a rollout, with no chance to write anything."""
    run = RunFolder.create(path, "train", config)
    learn(config, run, Notes(), on_evaluation=lambda steps, _: steps < after)
    return run


def differences(a: Any, b: Any, where: str = "") -> list[str]:
    """Where two checkpoints differ, but for how long episodes took ("t" of Monitor)."""
    if isinstance(a, dict):
        if a.keys() != b.keys():
            return [where]
        return [d for k in a if k != "t" for d in differences(a[k], b[k], f"{where}.{k}")]
    if isinstance(a, (list, tuple)):
        if len(a) != len(b):
            return [where]
        return [d for i, (x, y) in enumerate(zip(a, b, strict=True)) for d in differences(x, y, f"{where}[{i}]")]
    if isinstance(a, torch.Tensor):
        return [] if torch.equal(a, b) else [where]
    return [] if a == b else [where]


def assert_same_run(a: RunFolder, b: RunFolder) -> None:
    first, second = a.load_checkpoint(), b.load_checkpoint()
    if a.read_json("environment.json")["method"] == "replay":
        # holds what was there before a reset, with leftovers that the reset clears away
        del first["environments"], second["environments"]
    assert differences(first, second) == []
    assert (a.path / "metrics.csv").read_text() == (b.path / "metrics.csv").read_text()
    assert differences(read_whole(a.best), read_whole(b.best)) == []


def scalars(run: RunFolder) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows, without speeds."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    return {
        tag: [(e.step, e.value) for e in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
        if not tag.startswith("time/")
    }


def steps_done(run: Path) -> int:
    table = run / "metrics.csv"
    rows = table.read_text().splitlines()[1:] if table.is_file() else []
    return int(rows[-1].split(",")[0] or 0) if rows else 0


def start(path: Path, config: Path | None) -> subprocess.Popen:
    arguments = [str(config), "--out", str(path)] if config else ["--resume", "--out", str(path)]
    return subprocess.Popen([sys.executable, "-m", "mcsd_agent", "train", *arguments, "--quiet"])


def kill_after(process: subprocess.Popen, path: Path, steps: int, config: TrainConfig) -> None:
    """SIGKILL as soon as the run has done so many steps."""
    deadline = time.monotonic() + 120
    while steps_done(path) < steps and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"


def write_config(path: Path, config: TrainConfig) -> Path:
    return RunFolder.create(path, "train", config).path / "config.yaml"


def test_a_process_killed_anywhere_and_resumed_gives_the_weights_and_metrics_of_an_uninterrupted_run(tmp_path):
    config = tiny()
    target = random.Random().randrange(128, 1500)
    process = start(tmp_path / "killed", write_config(tmp_path / "config", config))
    kill_after(process, tmp_path / "killed", target, config)
    killed = RunFolder.open(tmp_path / "killed")
    learn(config, killed, Notes(), resume=True)
    whole = finished(tmp_path / "whole", config)
    assert_same_run(killed, whole)
    assert scalars(killed) == scalars(whole)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "overrides",
    [
        ["timesteps=20000", "n_envs=8", "policy.width=32"],
        ["timesteps=8000", "vectorised=async", "normalize_reward=true", "env=mcsd/PendulumNoVel-v1"],
        [
            *("timesteps=3000", "algorithm=sac", "env=mcsd/PendulumNoVel-v1", "n_envs=2", "checkpoint_every=300"),
            *(
                "sac.learning_starts=200",
                "sac.train_freq=4",
                "sac.batch_size=4",
                "sac.sequence_length=8",
                "sac.burn_in=4",
            ),
        ],
    ],
    ids=["ppo", "async, rewards normalised", "sac"],
)
def test_a_run_that_is_killed_again_and_again_is_still_the_same_run(tmp_path, overrides):
    config = tiny(*overrides)
    path = tmp_path / "killed"
    targets = sorted(random.Random().sample(range(200, int(0.9 * config.timesteps)), 4))
    process = start(path, write_config(tmp_path / "config", config))
    for target in targets:
        kill_after(process, path, target, config)
        process = start(path, None)
    assert process.wait(timeout=600) == 0
    whole = RunFolder.create(tmp_path / "whole", "train", config)
    train(config, whole, Notes())
    assert_same_run(RunFolder.open(path), whole)
    assert (path / "evaluation.json").read_text() == (whole.path / "evaluation.json").read_text()


@pytest.mark.parametrize(
    "overrides",
    [
        ["normalize_reward=true", "env=mcsd/PendulumNoVel-v1"],
        ["policy.backbone=gru", "policy.share_backbone=false"],
        ["env=mcsd/Nav-v0", "rate_hz=10", "n_envs=2", "eval_episodes=1"],
    ],
    ids=["rewards normalised", "critic of its own", "replayed"],
)
def test_every_kind_of_run_goes_on_exactly(tmp_path, overrides):
    config = tiny("timesteps=512", "eval_every=256", "checkpoint_every=128", *overrides)
    run = interrupted(tmp_path / "interrupted", config, after=256)
    notes = Notes()
    learn(config, run, notes, resume=True)
    assert notes.lines == []
    assert_same_run(run, finished(tmp_path / "whole", config))


def test_a_run_killed_before_its_first_checkpoint_starts_from_the_beginning(tmp_path):
    config = tiny("timesteps=512", "checkpoint_every=512", "eval_every=128")
    run, notes = interrupted(tmp_path / "run", config, after=256), Notes()
    assert steps_done(run.path) == 256
    learn(config, run, notes, resume=True)
    assert len(notes.lines) == 1
    assert "from the beginning" in notes.lines[0]
    assert_same_run(run, finished(tmp_path / "whole", config))


class Elusive(gymnasium.Env):
    """What comes next is in a Python generator, which nobody can copy."""

    metadata = {"render_fps": 10, "render_modes": []}  # noqa: RUF012
    observation_space = spaces.Box(0, 1, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        first = np.random.default_rng() if seed is None else np.random.default_rng(seed)
        self._stream = (np.float32([v]) for v in iter(first.random, None))
        self._left = 7
        return next(self._stream), {}

    def step(self, action):
        self._left -= 1
        return next(self._stream), 1.0, self._left == 0, False, {}


def test_where_the_environment_cannot_be_restored_it_is_said_once_and_the_run_goes_on(tmp_path):
    gymnasium.register("Elusive-v0", Elusive)
    try:
        config = tiny("env=Elusive-v0", "timesteps=1024")
        run, first, second = RunFolder.create(tmp_path / "run", "train", config), Notes(), Notes()
        learn(config, run, first, on_evaluation=lambda steps, _: False)
        learn(config, run, second, resume=True)
    finally:
        del gymnasium.registry["Elusive-v0"]
    assert run.read_json("environment.json")["restorable"] is False
    assert [len(first.lines), len(second.lines)] == [1, 1]
    assert "new episodes" in second.lines[0]
    assert run.load_checkpoint()["timesteps"] == 1024


def test_a_torn_newest_checkpoint_falls_back_to_the_one_before_with_one_line(tmp_path):
    config = tiny("timesteps=1024")
    run = interrupted(tmp_path / "run", config, after=1000)
    os.truncate(run.checkpoint, run.checkpoint.stat().st_size // 2)
    notes = Notes()
    learn(config, RunFolder.open(run.path), notes, resume=True)
    assert len(notes.lines) == 1
    assert "checksum" in notes.lines[0]
    assert_same_run(run, finished(tmp_path / "whole", config))


def test_with_both_checkpoints_torn_there_is_one_error(tmp_path):
    run = RunFolder.create(tmp_path / "run", "train", tiny())
    for _ in range(2):
        run.save_checkpoint({"x": torch.zeros(3)})
    for name in ("checkpoint.pt", "checkpoint.previous.pt"):
        (run.path / name).write_bytes(b"torn")
    with pytest.raises(UserError, match=r"checksum.*there is no other"):
        RunFolder.open(run.path).load_checkpoint()


def test_a_torn_checkpoint_never_pushes_out_the_good_one_before_it(tmp_path):
    files = CheckpointFiles(tmp_path / "c.pt")
    for value in (1, 2):
        files.save({"x": value})
    files.newest.write_bytes(b"torn")
    again = CheckpointFiles(tmp_path / "c.pt")
    assert again.load(lambda text: None) == {"x": 1}
    again.save({"x": 3})
    again.newest.write_bytes(b"torn")
    assert CheckpointFiles(tmp_path / "c.pt").load(lambda text: None) == {"x": 1}


def test_a_kill_between_the_two_renames_leaves_the_checkpoint_before(tmp_path):
    files = CheckpointFiles(tmp_path / "c.pt")
    for value in (1, 2):
        files.save({"x": value})
    files.newest.rename(tmp_path / "c.part")
    notes: list[str] = []
    assert CheckpointFiles(tmp_path / "c.pt").load(notes.append) == {"x": 1}
    assert notes == []


def test_any_altered_byte_and_any_cut_is_noticed(tmp_path):
    path = tmp_path / "c.pt"
    write_whole(path, {"x": torch.arange(5), "text": "abc", "big": 2**100})
    content = path.read_bytes()
    assert torch.load(path, weights_only=True)["big"] == 2**100
    for position in [*range(0, len(content), 37), len(content) - 1]:
        altered = bytearray(content)
        altered[position] ^= 1
        for changed in (bytes(altered), content[:position]):
            path.write_bytes(changed)
            with pytest.raises(Torn):
                read_whole(path)


@contextmanager
def files_at_most(size: int):
    """The system refuses to let any file of this process grow further, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_checkpoint_that_does_not_fit_on_the_disk_leaves_the_old_one_and_training_goes_on(tmp_path):
    config = tiny("timesteps=1024", "eval_every=0")
    first = tiny("timesteps=512", "eval_every=0", "ppo.anneal=false")
    run = finished(tmp_path / "run", first)
    notes = Notes()
    with files_at_most(run.checkpoint.stat().st_size // 2):
        model = learn(config, run, notes, resume=True)
    assert model.num_timesteps == 1024
    assert len(notes.lines) == 2
    assert all("could not be written" in line and "that of 512 steps stays" in line for line in notes.lines)
    assert RunFolder.open(run.path).load_checkpoint()["timesteps"] == 512
    assert not list(run.path.glob("*.part"))


def test_a_disk_without_room_for_the_metrics_ends_the_run_with_one_line(tmp_path):
    config = tiny("eval_every=0")
    run = finished(tmp_path / "run", tiny("timesteps=256", "eval_every=0"))
    with files_at_most(700), pytest.raises(UserError, match="make room, then --resume it"):
        train(config, run, Notes(), resume=True)
    assert RunFolder.open(run.path).load_checkpoint()["timesteps"] == 256


def test_the_checkpoint_of_another_backbone_is_refused_in_one_line(tmp_path):
    run = finished(tmp_path / "run", tiny("timesteps=256"))
    with pytest.raises(UserError, match="another policy") as refused:
        learn(tiny("timesteps=512", "policy.backbone=gru"), run, Notes(), resume=True)
    assert "\n" not in str(refused.value)
    assert run.stored_config()[1]["policy"]["backbone"] == "mcsd"


def test_another_number_of_environments_is_refused_and_nothing_is_changed(tmp_path):
    run = finished(tmp_path / "run", tiny("timesteps=256"))
    before = {p.name: p.read_bytes() for p in run.path.iterdir() if p.is_file()}
    with pytest.raises(UserError, match="n_envs=2 must be that of the checkpoint, 4"):
        learn(tiny("timesteps=512", "n_envs=2"), run, Notes(), resume=True)
    assert {p.name: p.read_bytes() for p in run.path.iterdir() if p.is_file()} == before


def test_a_run_folder_in_use_is_left_alone(tmp_path):
    run = RunFolder.create(tmp_path / "run", "train", tiny())
    with run.in_use(), pytest.raises(UserError, match="in use"):
        train(tiny(), RunFolder.open(run.path), Notes())
    with run.in_use():
        pass


@pytest.mark.thorough
@pytest.mark.parametrize("device", ["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
@pytest.mark.parametrize(
    "changes", [(), ("env=Pendulum-v1", "algorithm=sac", "timesteps=600", "sac.learning_starts=100", "eval_every=300")]
)
def test_a_run_on_any_device_is_gone_on_with_judged_and_exported(tmp_path, device, changes):
    config = tiny(f"device={device}", "checkpoint_every=128", *changes)
    interrupted(tmp_path, config, after=config.timesteps // 2)
    policy, results, _ = train(config, RunFolder.open(tmp_path), Notes(), resume=True)
    assert results[0].episodes == 2
    assert {p.device.type for p in policy.parameters()} == {"cpu"}
    assert all(v.device.type == "cpu" for v in read_whole(tmp_path / "checkpoint.pt")["policy"].values())


def test_a_prolonged_run_that_is_interrupted_gives_its_checkpoint_and_not_the_shorter_runs_artifact(tmp_path):
    short = tiny("timesteps=256", "eval_every=128", "checkpoint_every=128")
    run = RunFolder.create(tmp_path / "run", "train", short)
    train(short, run, Notes())
    results = ("policy.mcsd", "best.mcsd", "evaluation.json", "finished.json")
    before = {name: (run.path / name).read_bytes() for name in results}
    learn(short, run, Notes(), resume=True)  # there is nothing left to do
    assert {name: (run.path / name).read_bytes() for name in results} == before
    longer = tiny("timesteps=2048", "eval_every=128", "checkpoint_every=128")
    learn(longer, run, Notes(), resume=True, on_evaluation=lambda steps, _: steps < 768)
    assert not [name for name in results if (run.path / name).exists()]
    checkpoint = run.load_checkpoint()
    assert checkpoint["timesteps"] > 256
    stored = load_stored_policy(run.path).policy.state_dict()
    assert all(torch.equal(stored[k], v) for k, v in checkpoint["policy"].items())


def test_a_kill_while_the_shorter_runs_results_are_removed_leaves_a_policy(tmp_path, monkeypatch):
    short = tiny("timesteps=256", "eval_every=0")
    run = RunFolder.create(tmp_path / "run", "train", short)
    train(short, run, Notes())
    trained = load_stored_policy(run.path).policy.state_dict()
    unlink = Path.unlink
    left = 0

    def killed_after(path: Path, *arguments: Any, **named: Any) -> None:
        nonlocal left
        if path.suffix in (".json", ".mcsd"):
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
        unlink(path, *arguments, **named)

    monkeypatch.setattr(Path, "unlink", killed_after)
    for left in (0, 1, 2, 3):  # noqa: B007 -- counted down above
        with pytest.raises(KeyboardInterrupt):
            run.drop_results()
        stored = load_stored_policy(run.path).policy.state_dict()
        assert all(torch.equal(stored[k].float(), v.float()) for k, v in trained.items())


@pytest.mark.parametrize(("timesteps", "steps"), [(5, 1), (2048, 204), (50_000, 5_000), (3_000_000, 50_000)])
def test_a_kill_costs_a_tenth_of_a_run_at_most(timesteps, steps):
    assert build(TrainConfig, {"env": "CartPole-v1", "timesteps": timesteps}).checkpoint_steps == steps
    told = build(TrainConfig, {"env": "CartPole-v1", "timesteps": timesteps, "checkpoint_every": 7})
    assert told.checkpoint_steps == 7


def test_a_short_run_with_the_defaults_leaves_a_checkpoint_when_it_is_interrupted(tmp_path):
    run = interrupted(tmp_path / "run", tiny("checkpoint_every=null", "eval_every=256"), after=1024)
    assert run.load_checkpoint()["timesteps"] >= 768
    assert run.stored_config()[1]["checkpoint_every"] is None


def test_a_device_that_is_not_there_is_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="device='cuda': torch finds no CUDA device here; choose 'cpu'"):
        finished(tmp_path, tiny("device=cuda"))


def test_rows_after_the_checkpoint_and_torn_rows_are_dropped(tmp_path):
    run = RunFolder.create(tmp_path / "run", "train", tiny())
    for steps in (100, 200, 300):
        run.add_metrics({"timesteps": steps, "loss": 0.5})
    with (run.path / "metrics.csv").open("a") as file:
        file.write("40")
    again = RunFolder.open(run.path)
    again.drop_metrics_after(200)
    again.add_metrics({"timesteps": 300, "loss": 0.25})
    rows = list(csv.DictReader((run.path / "metrics.csv").read_text().splitlines()))
    assert [(r["timesteps"], r["loss"]) for r in rows] == [("100", "0.5"), ("200", "0.5"), ("300", "0.25")]


def test_random_generators_go_on_where_they_were_and_evaluation_leaves_them_alone():
    def draw() -> list[float]:
        return [random.random(), float(np.random.random()), torch.rand(1).item()]  # noqa: NPY002

    state = random_state()
    first = draw()
    set_random_state(state)
    with untouched_random_state():
        draw()
    assert draw() == first
