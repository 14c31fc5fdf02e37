"""The command line as a user meets it: results on stdout, one line on stderr for bad input, exit code 2."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mcsd_agent.artifact import export_policy, load_policy
from mcsd_agent.cli import _parser, main
from mcsd_agent.errors import UserError
from mcsd_agent.training.command_arguments import settings_of
from mcsd_agent.training.run_commands import _show_seeds, _train_config

TINY = [
    *("--set", "record.episodes=40", "--set", "record.processes=1", "--set", "imitation.updates=8"),
    *("--set", "imitation.dagger_rounds=1", "--set", "imitation.dagger_episodes=4"),
    *("--set", "policy.width=16", "--set", "policy.layers=1", "--set", "evaluation.episodes=4"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "nav"
    assert main(["imitate", "configs/nav/demo.yaml", "--out", str(path), "--quiet", *TINY]) == 0
    return path


def one_json(capsys, *arguments: str) -> dict:
    assert main([*arguments, "--json", "--quiet"]) == 0
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


def test_a_run_folder_holds_everything_to_repeat_and_judge_it(run):
    assert {p.name for p in run.iterdir()} >= {
        "config.yaml",
        "versions.json",
        "metrics.csv",
        "curve.png",
        "evaluation.json",
        "policy.mcsd",
    }
    groups = {row["group"] for row in json.loads((run / "evaluation.json").read_text())}
    assert groups == {"one_part", "two_parts"}


def test_eval_of_run_and_artifact_agree_and_a_video_is_written(run, capsys, tmp_path):
    video = tmp_path / "nav.mp4"
    arguments = ("--episodes", "3", "--seed", "7")
    a = one_json(capsys, "eval", str(run), *arguments, "--video", str(video), "--video-episodes", "1")
    b = one_json(capsys, "eval", str(run / "policy.mcsd"), *arguments)
    assert a == b
    assert a["episodes"] == 3
    assert video.stat().st_size > 1000


def test_export_inspect_and_plot(run, capsys, tmp_path):
    artifact = tmp_path / "nav.mcsd"
    exported = one_json(capsys, "export", str(run), "--out", str(artifact))
    assert exported["max_action_deviation"] <= 1e-4
    inspected = one_json(capsys, "inspect", str(artifact))
    assert inspected["rate_hz"] == 10.0
    assert set(inspected["observation"]) == {"ranges", "labels", "wheel_velocities", "instruction"}
    one_json(capsys, "plot", str(run), "--out", str(tmp_path / "curve.png"))
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.thorough
def test_record_then_imitate_from_the_file(capsys, tmp_path):
    recorded = one_json(
        capsys, "record", "mcsd/Nav-v0", "--episodes", "5", "--processes", "1", "--out", str(tmp_path / "d")
    )
    assert recorded["steps"] > 0
    source = ["--set", f"demonstrations={tmp_path / 'd'}", "--set", "imitation.dagger_rounds=0"]
    assert main(["imitate", "configs/nav/demo.yaml", "--out", str(tmp_path / "r"), "--quiet", *TINY, *source]) == 0


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A run by `train --env`: a preset, with --set on top."""
    path = tmp_path_factory.mktemp("runs") / "cartpole"
    values = {"timesteps": 512, "n_envs": 4, "ppo.n_steps": 32, "ppo.n_epochs": 1, "policy.width": 16}
    values |= {"evaluation.episodes": 2, "eval_every": 256, "eval_episodes": 1, "ppo.anneal": "false"}
    settings = [x for k, v in values.items() for x in ("--set", f"{k}={v}")]
    assert main(["train", "--env", "mcsd/CartPoleNoVel-v1", "--out", str(path), "--quiet", *settings]) == 0
    return path


def test_a_training_run_leaves_what_repeats_judges_and_shows_it(trained):
    assert {p.name for p in trained.iterdir()} >= {
        *("config.yaml", "versions.json", "environment.json", "metrics.csv", "curve.png", "tensorboard"),
        *("checkpoint.pt", "best.pt", "policy.mcsd", "best.mcsd", "evaluation.json", "evaluation.mp4"),
    }
    versions = json.loads((trained / "versions.json").read_text())
    assert versions["seed"] == 0
    assert versions["torch"] == str(torch.__version__)
    assert json.loads((trained / "environment.json").read_text())["restorable"] is True
    header = (trained / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"timesteps", "rollout/ep_rew_mean", "eval/return_mean", "train/value_loss"} <= set(header)
    assert (trained / "evaluation.mp4").stat().st_size > 1000
    best = torch.load(trained / "best.pt", weights_only=True)
    rewritten = load_policy(trained / "best.mcsd").state_dict()
    assert all(torch.equal(rewritten[k].float(), v.float()) for k, v in best["policy"].items())


@pytest.mark.thorough
def test_a_finished_run_is_prolonged_with_another_number_of_steps_and_no_config(trained, capsys, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    one_json(capsys, "train", "--resume", "--out", str(copy), "--set", "timesteps=1024")
    before = torch.load(trained / "checkpoint.pt", weights_only=True)
    after = torch.load(copy / "checkpoint.pt", weights_only=True)
    assert (before["timesteps"], after["timesteps"]) == (512, 1024)
    assert after["learner"]["n_updates"] > before["learner"]["n_updates"]
    weights = load_policy(copy / "policy.mcsd").state_dict()
    assert all(torch.equal(weights[k].float(), v.float()) for k, v in after["policy"].items())
    steps = [int(line.split(",")[0]) for line in (copy / "metrics.csv").read_text().splitlines()[1:]]
    assert steps == sorted(steps)
    assert steps[-1] == 1024


def test_a_run_is_exported_and_judged_from_its_checkpoint_as_from_its_artifact(trained, capsys, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    (copy / "policy.mcsd").unlink()
    a = one_json(capsys, "eval", str(trained), "--episodes", "2")
    assert one_json(capsys, "eval", str(copy), "--episodes", "2") == a


def bad(*arguments: str) -> tuple[int, str, str]:
    done = subprocess.run([sys.executable, "-m", "mcsd_agent", *arguments], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["imitate", "configs/nav/demo.yaml", "--set", "imitation.updatez=1"], "did you mean 'updates'"),
        (["train", "nowhere.yaml"], "nowhere.yaml"),
        (["train"], "give a CONFIG file or --env ID"),
        (["train", "configs/cartpole_novel.yaml", "--env", "CartPole-v1"], "exclude each other"),
        (["train", "--env", "CartPole-v11"], "did you mean 'CartPole-v1'"),
        (["train", "--env", "CartPole-v1", "--set", "ppo.gamma=1.5"], "ppo.gamma=1.5 must be from 0 to 1"),
        (["train", "--env", "CartPole-v1", "--set", "ppo.learning_rate=-1"], "ppo.learning_rate=-1.0 must be above 0"),
        (["train", "--env", "CartPole-v1", "--set", "ppo.clip_range_vf=0"], "ppo.clip_range_vf=0.0 must be above 0"),
        (["train", "--env", "CartPole-v1", "--set", "sac.train_freq=0"], "sac.train_freq=0 must be at least 1"),
        (["train", "--env", "CartPole-v1", "--set", "eval_every=-1"], "eval_every=-1 must be at least 0"),
        (["train", "--env", "CartPole-v1", "--set", "checkpoint_every=0"], "checkpoint_every=0 must be at least 1"),
        (
            ["train", "--env", "CartPole-v1", "--set", "evaluation.seed=-1"],
            "evaluation.seed=-1 must be from 0 to",
        ),
        (["train", "--env", "CartPole-v1", "--set", "evaluation.groups={a: {foo: 1}}", "--out", "OUT/r"], "'foo'"),
        (["train", "--env", "CartPole-v1", "--set", "evaluation.env_kwargs={foo: 1}", "--out", "OUT/r"], "'foo'"),
        (["imitate", "configs/nav/demo.yaml", "--set", "evaluation.groups={a: {foo: 1}}", "--out", "OUT/r"], "'foo'"),
        (
            [
                *(
                    "imitate",
                    "configs/nav/demo.yaml",
                    "--set",
                    "record.env=CartPole-v1",
                    "--set",
                    "record.env_kwargs={}",
                ),
                *("--set", "evaluation.groups={}", "--set", "demonstrations=OUT/d", "--out", "OUT/r"),
            ],
            "no scripted expert",
        ),
        (["train", "--env", "CartPole-v1", "--seeds", "0"], "--seeds 0 must be at least 1"),
        (["train", "--env", "CartPole-v1", "--seeds", "2", "--seed", "3"], "--set seed=3 is where several seeds begin"),
        (["train", "--env", "CartPole-v1", "--seed", "-1"], "--seed -1 must be from 0 to"),
        (["train", "--env", "CartPole-v1", "--seed", "1", "--set", "seed=2"], "--set seed=2 exclude each other"),
        (["imitate", "configs/nav/demo.yaml", "--seed", "1", "--set", "seed=2"], "exclude each other"),
        (["tune", "--env", "CartPole-v1", "--seed", "1", "--set", "seed=2"], "exclude each other"),
        (["train", "--env", "CartPole-v1", "--set", "timesteps=1.5e0"], "'1.5e0' must be of type int, a whole number"),
        (["train", "--env", "CartPole-v1", "--out", "OUT/r", "--set", "ppo.n_minibatches=3"], "n_minibatches=3"),
        (["train", "--env", "Acrobot-v1", "--out", "OUT/r", "--set", "algorithm=sac"], "Box actions"),
        (["train", "--env", "CartPole-v1", "--out", "pyproject.toml/run"], "cannot be made"),
        (["tune", "--env", "CartPole-v1", "--set", "tune.space.ppo.gama=[0.9]", "--out", "OUT/t"], "'gamma'"),
        (["tune", "--env", "CartPole-v1", "--set", "tune.space={ppo.gamma: {low: 1, high: 0.5}}"], "low < high"),
        (["tune", "--env", "CartPole-v1", "--trials", "0"], "--trials 0 must be above 0"),
        (["plot", "configs"], "not a run folder"),
        (["train", "configs/cartpole_novel.yaml", "--set", "env=mcsd/CartPol-v1", "--out", "OUT"], "mcsd/CartPol-v1"),
        (["train", "configs/cartpole_novel.yaml", "--resume"], "--resume needs --out"),
        (["train", "configs/cartpole_novel.yaml", "--resume", "--out", "OUT"], "not a run folder"),
        (["eval", "OUT/none.mcsd"], "none.mcsd"),
        (["eval", "OUT/none.mcsd", "--episodes", "0"], "--episodes 0 must be at least 1"),
        (["eval", "OUT/none.mcsd", "--seed", "-1"], "--seed -1 must be from 0 to"),
        (["eval", "OUT/none.mcsd", "--video", "OUT/q.mp4", "--video-episodes", "0"], "--video-episodes 0 must be at"),
        (["export", "OUT", "--out", "x.mcsd", "--rate-hz", "0"], "--rate-hz 0 must be above 0"),
        (["export", "OUT", "--out", "x.mcsd", "--rate-hz", "-5"], "--rate-hz -5 must be above 0"),
        (["export", "OUT", "--out", "x.mcsd", "--rate-hz", "nan"], "--rate-hz nan must be above 0"),
        (["record", "mcsd/Nav-v0", "--seed", "-1", "--out", "OUT/d"], "--seed -1 must be from 0 to"),
        (["record", "mcsd/Nav-v0", "--out", "pyproject.toml/d"], "give a folder that can be made"),
        (["export", "OUT", "--out", "x.mcsd"], "not a run folder"),
        (["inspect", "pyproject.toml"], "pyproject.toml"),
        (["record", "mcsd/Nav-v0", "--out", "configs"], "exist already"),
        (["record", "CartPole-v1", "--out", "OUT/d"], "no scripted expert"),
        (["plot", "OUT"], "not a run folder"),
        (["run", "nowhere.mcsd", "--robot", "configs/robots/diffdrive.yaml"], "nowhere.mcsd"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, words, tmp_path, capsys):
    code = main([a.replace("OUT", str(tmp_path)) for a in arguments])
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if not line.startswith("run folder:")]
    assert code == 2
    assert out == ""
    assert len(lines) == 1
    assert words in lines[0]
    assert lines[0].startswith("error: ")
    assert not (tmp_path / "r").exists()


def test_options_are_not_abbreviated(capsys):
    for arguments in (["tune", "--env", "CartPole-v1", "--time", "1"], ["train", "--en", "CartPole-v1"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
        assert "unrecognized arguments" in capsys.readouterr().err


def test_a_seed_of_its_own_option_is_the_configs_seed():
    train = _parser().parse_args(["train", "configs/cartpole_novel.yaml", "--seed", "3", "--set", "n_envs=2"])
    assert train.seeds is None
    train.set = settings_of(train)
    config = _train_config(train)
    assert (config.seed, config.n_envs) == (3, 2)
    assert settings_of(_parser().parse_args(["imitate", "configs/nav/demo.yaml", "--seed", "5"])) == ["seed=5"]
    assert settings_of(_parser().parse_args(["tune", "--env", "CartPole-v1"])) == []


def test_one_seed_has_no_interval_in_the_table(capsys):
    rows = [{"seed": 0, "return_mean": 2.0, "best_mean": 3.0, "timesteps": 5}]
    one = {"mean": 2.0, "interval_95": None, "seeds": 1}
    _show_seeds({"runs": rows, "return": one, "best": one})
    assert "[" not in capsys.readouterr().out
    two = {"mean": 2.0, "interval_95": [1.0, 3.0], "seeds": 2}
    _show_seeds({"runs": rows * 2, "return": two, "best": two})
    assert "2.00 [1.00, 3.00]" in capsys.readouterr().out


def test_a_module_in_the_current_folder_is_found_and_hides_nothing(tmp_path):
    """As the console script runs: it does not put the current folder on the path (-P)."""
    (tmp_path / "my_module.py").write_text("print('my module')")
    for name in ("torch", "json"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('hidden')")
    program = "import sys; from mcsd_agent.cli import main; sys.exit(main())"
    command = [sys.executable, "-P", "-c", program, "train", "--env", "my_module:Reach-v0", "--out", "r"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "my module\n"
    assert "hidden" not in done.stderr
    assert done.returncode == 2  # nothing is registered under that name


def test_a_run_that_could_not_begin_leaves_no_folder(tmp_path):
    out = tmp_path / "run"
    arguments = ["train", "--env", "CartPole-v1", "--out", str(out), "--set", "ppo.n_minibatches=3"]
    assert main(arguments) == 2
    assert not out.exists()
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    assert main(arguments) == 2
    assert [p.name for p in out.iterdir()] == ["mine.txt"]


def test_an_existing_run_is_not_overwritten(run):
    before = (run / "policy.mcsd").read_bytes()
    code, _, err = bad("imitate", "configs/nav/demo.yaml", "--out", str(run))
    assert code == 2
    assert "exists already" in err
    assert (run / "policy.mcsd").read_bytes() == before


def test_every_command_explains_itself_with_an_example(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    commands = [
        line.split()[0]
        for line in capsys.readouterr().out.split("COMMAND\n")[1].splitlines()
        if line.startswith("    ")
    ]
    assert len(commands) >= 12
    for command in commands:
        with pytest.raises(SystemExit) as stop:
            main([command, "--help"])
        assert stop.value.code == 0
        assert f"example: mcsd-agent {command}" in capsys.readouterr().out


def test_an_artifact_for_other_observation_names_is_refused_before_anything_is_connected(run, tmp_path):
    text = Path("configs/robots/diffdrive.yaml").read_text().replace("  ranges:\n", "  distances:\n")
    robot = tmp_path / "robot.yaml"
    robot.write_text(text)
    code, _, err = bad("run", str(run / "policy.mcsd"), "--robot", str(robot), "--url", "ws://127.0.0.1:9")
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "ranges" in err


def test_an_unreachable_server_is_one_line(run):
    code, _, err = bad(
        "run", str(run / "policy.mcsd"), "--robot", "configs/robots/diffdrive.yaml", "--url", "ws://127.0.0.1:9"
    )
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "ws://127.0.0.1:9" in err


def test_nan_weights_are_not_exported_and_the_tensor_is_named(run, tmp_path):
    policy = load_policy(run / "policy.mcsd")
    with torch.no_grad():
        policy.value_net[0].weight[0, 0] = float("nan")
    with pytest.raises(UserError, match=r"value_net\.0\.weight"):
        export_policy(policy, tmp_path / "nan.mcsd", rate_hz=10.0)
    assert not (tmp_path / "nan.mcsd").exists()


def test_an_altered_artifact_is_refused(run, tmp_path):
    data = bytearray((run / "policy.mcsd").read_bytes())
    data[len(data) // 2] ^= 1
    altered = tmp_path / "altered.mcsd"
    altered.write_bytes(data)
    for command in (
        ["inspect", str(altered)],
        ["eval", str(altered)],
        ["run", str(altered), "--robot", "configs/robots/diffdrive.yaml"],
    ):
        code, _, err = bad(*command)
        assert code == 2, command
        assert len(err.splitlines()) == 1
        assert "altered.mcsd" in err


@pytest.mark.thorough
def test_what_was_learnt_can_be_exported_from_the_checkpoint_alone(run, capsys, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / "policy.mcsd").unlink()
    one_json(capsys, "export", str(copy), "--out", str(tmp_path / "again.mcsd"))
    first, again = load_policy(run / "policy.mcsd").state_dict(), load_policy(tmp_path / "again.mcsd").state_dict()
    assert all(torch.equal(first[k], again[k]) for k in first)
    config = copy / "config.yaml"
    config.write_text(config.read_text().replace("\n  width: 16\n", "\n  width: 32\n"))
    assert main(["export", str(copy), "--out", str(tmp_path / "other.mcsd"), "--quiet"]) == 2
    assert "the checkpoint is of another policy than the config" in capsys.readouterr().err
