"""The commands of `mcsd-agent` that train, judge and export: what they take. What they do is in `run_commands`,
`demo_commands`, `policy_commands` and `robot_commands`.
"""

from __future__ import annotations

from pathlib import Path

from mcsd_agent.number_arguments import Seed
from mcsd_agent.training.command_arguments import AddCommand, add_env_kwargs, add_seed, add_set, add_task
from mcsd_agent.training.demo_commands import record_command, replay_command
from mcsd_agent.training.policy_commands import eval_command, export_command, plot_command
from mcsd_agent.training.robot_commands import add_convert_arguments, add_record_arguments, convert_command
from mcsd_agent.training.run_commands import imitate_command, train_command, tune_command


def add_commands(command: AddCommand) -> None:
    """Add `train`, `tune`, `imitate`, `record`, `replay`, `convert`, `eval`, `export` and `plot`."""
    sub = command("train", train_command, "Reinforcement learning.", "train configs/cartpole_novel.yaml --seed 1")
    add_task(sub)
    add_seed(sub)
    sub.add_argument("--out", type=Path, help="run folder (default: runs/train-TIME)")
    sub.add_argument(
        "--resume", action="store_true", help="go on with the run in --out, where it was killed; CONFIG may be left out"
    )
    sub.add_argument(
        "--seeds", type=int, metavar="N", help="N runs, with seeds from the config's on, each in --out/seed-K"
    )
    sub.add_argument("--jobs", type=int, help="runs at a time with --seeds (default: as many as there are processors)")
    add_set(sub, "a config value")

    sub = command(
        "tune", tune_command, "Search for hyper-parameters.", "tune --env CartPole-v1 --trials 30 --timeout 3600"
    )
    add_task(sub)
    add_seed(sub)
    sub.add_argument("--trials", type=int, help="trials in all (default: tune.trials)")
    sub.add_argument("--timeout", type=float, metavar="SECONDS", help="begin no trial after this long")
    sub.add_argument("--out", type=Path, help="folder of the search (default: runs/tune-TIME)")
    sub.add_argument("--resume", action="store_true", help="go on with the search in --out; CONFIG may be left out")
    add_set(sub, "a config value")

    sub = command(
        "imitate",
        imitate_command,
        "Behaviour cloning and DAgger from an expert.",
        "imitate configs/nav/demo.yaml --out runs/nav",
    )
    sub.add_argument("config", type=Path)
    add_seed(sub)
    sub.add_argument("--out", type=Path, help="run folder (default: runs/imitate-TIME)")
    sub.add_argument("--device", choices=("cpu", "cuda", "auto"), help="where the network learns (default: device)")
    add_set(sub, "a config value")

    sub = command(
        "record",
        record_command,
        "Demonstrations of an expert, of a person, or of a real robot.",
        "record mcsd/Nav-v0 --expert scripted --episodes 500 --out demos/nav\n"
        "         mcsd-agent record BabyAI-GoToLocal-v0 --expert keyboard --out demos/mine\n"
        "         mcsd-agent record --robot configs/robots/diffdrive.yaml --url ws://robot:9090 --out demos/robot",
    )
    sub.add_argument("env", nargs="?", help="environment id; or give --robot")
    sub.add_argument(
        "--expert",
        default="scripted",
        help="scripted (default), babyai-bot for BabyAI's levels, metaworld for Meta-World's tasks, or a person's "
        "keyboard or gamepad",
    )
    sub.add_argument("--keys", type=Path, metavar="YAML", help="what a person's keys, buttons and axes do")
    sub.add_argument(
        "--episodes", type=int, help="how many (default: 1000; of a person, until Escape; of a robot, until Ctrl-C)"
    )
    sub.add_argument("--out", type=Path, required=True)
    sub.add_argument("--seed", action=Seed, default=0)
    sub.add_argument("--processes", type=int, default=2)
    sub.add_argument("--no-noise", dest="noise", action="store_false", help="do not disturb the expert")
    sub.add_argument("--tries", type=int, default=1, help="times that a failed episode is tried, with other noise")
    add_set(sub, "an argument of the environment")
    add_record_arguments(sub)

    sub = command(
        "replay",
        replay_command,
        "Demonstrations, done again in their environment, as video.",
        "replay demos/nav --video nav.mp4",
    )
    sub.add_argument("demonstrations", type=Path, metavar="DEMOS")
    sub.add_argument("--video", type=Path, required=True, metavar="FILE.mp4")
    sub.add_argument("--first", type=int, default=0, help="number of the first episode (default: 0)")
    sub.add_argument("--episodes", type=int, default=3, help="how many (default: 3)")

    sub = command(
        "convert",
        convert_command,
        "Bags of a robot to demonstrations, and back.",
        "convert drive.mcap --robot configs/robots/diffdrive.yaml --out demos/drive",
    )
    add_convert_arguments(sub)

    sub = command(
        "eval",
        eval_command,
        "Success, return and length on unseen seeds.",
        "eval runs/nav --episodes 200 --video nav.mp4",
    )
    sub.add_argument("policy", type=Path, metavar="RUN|ARTIFACT")
    sub.add_argument("--episodes", type=int, default=200)
    sub.add_argument("--seed", action=Seed, default=1_000_000, help="first seed")
    sub.add_argument("--env", help="another environment than the one it was trained in")
    add_env_kwargs(sub)
    sub.add_argument("--video", type=Path, metavar="FILE.mp4")
    sub.add_argument("--video-episodes", type=int, default=3)
    add_set(sub, "an argument of the environment")

    sub = command(
        "export",
        export_command,
        "Write the deployable artifact, with a parity check.",
        "export runs/nav --out nav.mcsd",
    )
    sub.add_argument("run", type=Path, metavar="RUN")
    sub.add_argument("--out", type=Path, required=True, metavar="FILE.mcsd")
    sub.add_argument("--rate-hz", type=float, help="control rate (default: the environment's)")
    sub.add_argument(
        "--weights", default="float32", metavar="TYPE", help="float32 (default), float16, bfloat16, or int8: rounded"
    )
    sub.add_argument("--pt2", type=Path, metavar="FILE.pt2", help="also write the step as a program of torch.export")

    sub = command(
        "plot",
        plot_command,
        "Learning curves of runs, or a page from telemetry.",
        "plot runs/a runs/b --out curves.png",
    )
    sub.add_argument("what", type=Path, nargs="+", metavar="RUN|TELEMETRY")
    sub.add_argument("--out", type=Path, help="picture; for telemetry, NAME.jsonl or NAME.mcap, also a folder")
    sub.add_argument("--y", metavar="COLUMN", help="column of metrics.csv to draw, such as eval/return_mean")
