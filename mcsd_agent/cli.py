"""`mcsd-agent`: one command for the whole path from simulation to robot.

Every sub-command imports what it needs when it runs, so that the robot's installation, which has no
torch, can use `inspect`, `run` and `instruct`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from mcsd_agent.artifact_commands import add_artifact_commands
from mcsd_agent.console import Reporter, table
from mcsd_agent.errors import UserError
from mcsd_agent.number_arguments import Seconds, Seed
from mcsd_agent.training.command_arguments import Result
from mcsd_agent.training.commands import add_commands

#: Which extra brings a package that a command may miss.
_EXTRAS = {
    "robot": ("roslibpy", "rosbags", "cryptography"),
    "onnx": ("onnxruntime",),
    "camera": ("cv2",),
    "telemetry": ("mcap", "prometheus_client"),
    "bench": ("psutil",),
    "train": (
        "torch",
        "stable_baselines3",
        "gymnasium",
        "mujoco",
        "minari",
        "onnx",
        "safetensors",
        "matplotlib",
        "optuna",
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a sub-command: 0 when it succeeded, 2 for bad input (one line on stderr), 130 after Ctrl-C."""
    try:
        options = _parser().parse_args(arguments)
        if options.own_modules:
            _find_modules_here()
        result = options.function(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        name = (error.name or "").split(".")[0]
        extra = next((e for e, packages in _EXTRAS.items() if name in packages), None)
        if extra is None:
            raise
        print(f"error: {name} is not installed; install mcsd-agent with the extra [{extra}]", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Whoever read our output has left, as `| head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    if options.json:
        print(json.dumps(result))
    return int(result.get("exit_code", 0))


def _find_modules_here() -> None:
    """Let `--env my_module:Name-v0` import from the current folder, as `python -m mcsd_agent` does.

    At the end of the path: a torch.py or json.py that lies there hides nothing that is installed.
    """
    with suppress(FileNotFoundError):  # it may have been deleted
        folder = os.getcwd()
        if folder not in sys.path:
            sys.path.append(folder)


# -------------------------------------------------------------------------------------------- the robot


def _run(options: argparse.Namespace) -> Result:
    from mcsd_agent.runtime import RealTimeConfig
    from ros_bridge.run_policy import run_policy

    summary = run_policy(
        options.artifact,
        options.robot,
        url=options.url,
        native=options.native,
        node_name=options.node,
        signed_by=options.require_signature,
        engine=options.engine,
        spoken_ticks=options.spoken_ticks,
        telemetry_folder=options.telemetry,
        mcap=options.mcap,
        prometheus_port=options.prometheus,
        real_time=RealTimeConfig(
            options.fifo, tuple(options.cpu), options.lock_memory, required=options.real_time_required
        ),
        seconds=options.seconds,
    )
    print(json.dumps(summary, indent=2), file=sys.stderr)
    return summary


def _instruct(options: argparse.Namespace) -> Result:
    from ros_bridge.connection import DEFAULT_URL, URL_VARIABLE
    from ros_bridge.operator import Operator

    url = options.url or os.environ.get(URL_VARIABLE, DEFAULT_URL)
    with Operator(url, policy=options.node, instruction_topic=options.topic) as operator:
        if options.wait is not None:
            return _execute(operator, options)
        status = operator.instruct(options.text)
    said, unknown = status.values["instruction"], status.values.get("unknown_words", "")
    print(f"heard: {said}" + (f" (words that the policy was not trained on: {unknown})" if unknown else ""))
    return {"instruction": said, "unknown_words": unknown.split(", ") if unknown else []}


def _execute(operator: Any, options: argparse.Namespace) -> Result:
    """The instruction as a goal: waits for its end."""
    reporter = Reporter(options.quiet)

    def feedback(progress: float, confidence: float) -> None:
        sure = f", confidence {confidence:.2f}" if confidence >= 0 else ""
        reporter("goal", progress, f"{options.text}{sure}")

    try:
        end = operator.execute(options.text, options.wait, feedback)
    finally:
        reporter.close()
    print(f"{end.state}: {end.message}")
    return {"instruction": options.text, **vars(end), "exit_code": 0 if end.success else 1}


def _doctor(options: argparse.Namespace) -> Result:
    from ros_bridge.doctor import examine, to_json

    checks = examine(
        options.robot, artifact=options.artifact, url=options.url, native=options.native, seconds=options.seconds
    )
    for check in checks:
        print(f"{check.level:>8}  {check.name}: {check.found}" + (f"\n          -> {check.fix}" if check.fix else ""))
    return to_json(checks)


def _guard(options: argparse.Namespace) -> Result:
    from ros_bridge.command_guard import GuardConfig
    from ros_bridge.run_guard import run_guard

    config = GuardConfig(
        options.source,
        options.target,
        options.message,
        options.plain,
        max_age_s=options.max_age,
        max_ahead_s=options.max_ahead,
        timeout_s=options.timeout,
    )
    counts = run_guard(config, url=options.url, seconds=options.seconds)
    print(json.dumps(counts), file=sys.stderr)
    return counts


def _sim(options: argparse.Namespace) -> Result:
    from ros_bridge.sim_stack import run_sim_stack

    run_sim_stack(options.robot, port=options.port, seed=options.seed, seconds=options.seconds)
    return {}


def _demo(options: argparse.Namespace) -> Result:
    from mcsd_agent.demo import run_demo

    return run_demo(
        options.config, options.robot, options.out, Reporter(options.quiet), show=lambda h, r: print(table(h, r))
    )


# ------------------------------------------------------------------------------------------- benchmarks

#: Modules of `mcsd_agent.bench` with `add_arguments(parser)` and `run(options)`: what each measures, an example.
_BENCHMARKS = {
    "scan": (
        "Training on sequences: speed and memory of every backbone by length, beside what the hardware allows.",
        "scan --device cpu --lengths 64 1024 --models mcsd-extended gru",
    ),
    "generate": (
        "Writing one byte at a time: memory, latency and throughput against a Transformer with a cache.",
        "generate --device cuda --out benchmarks/results",
    ),
    "train": (
        "SequencePPO: environment steps per CPU-second beside sb3-contrib's RecurrentPPO.",
        "train --env CartPole-v1",
    ),
    "step": (
        "One step on one thread: engines, GRU, LSTM and transformer, beside the time to read the weights once.",
        "step --json",
    ),
    "stream": (
        "A policy for millions of ticks: speed, memory, deviation from torch; or at a rate on a busy machine.",
        "stream --ticks 1000000",
    ),
    "ros": (
        "Round trips and ages over rosbridge beside native rclpy, in one run (Linux on x86-64, extra ros).",
        "ros --rates 50 200 500 --out benchmarks/results",
    ),
}


# -------------------------------------------------------------------------------------------- arguments


def _parser() -> argparse.ArgumentParser:
    # Nowhere abbreviations: `--seed` would be read as `--seeds` wherever a command has no `--seed`.
    parser = argparse.ArgumentParser(
        prog="mcsd-agent",
        description="Train a streaming policy in simulation, run it on a robot, tell it what to do.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def parser_of(among: Any, name: str, text: str, example: str) -> argparse.ArgumentParser:
        return among.add_parser(
            name,
            help=text,
            description=text,
            epilog=f"example: mcsd-agent {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def command(
        name: str,
        function: Callable[..., Result],
        text: str,
        example: str,
        among: Any = commands,
        own_modules: bool = False,
    ) -> argparse.ArgumentParser:
        """`own_modules`: environments of the user's own are looked for in the current folder too."""
        sub = parser_of(among, name, text, example)
        sub.set_defaults(function=function, own_modules=own_modules)
        sub.add_argument("--json", action="store_true", help="print one JSON object as the last line of stdout")
        sub.add_argument("--quiet", action="store_true", help="no progress")
        return sub

    add_commands(partial(command, own_modules=True))

    add_artifact_commands(command)

    sub = command(
        "run",
        _run,
        "Drive a robot with an artifact, over rosbridge or natively.",
        "run nav.mcsd --robot configs/robots/diffdrive.yaml --url ws://robot:9090",
    )
    sub.add_argument("artifact", type=Path)
    sub.add_argument("--robot", type=Path, required=True)
    sub.add_argument("--url", help="rosbridge server (default: MCSD_ROSBRIDGE_URL, else ws://localhost:9090)")
    sub.add_argument(
        "--require-signature", type=Path, metavar="PUBLIC.pem", help="refuse an artifact that this key did not sign"
    )
    sub.add_argument("--native", action="store_true", help="use native rclpy instead of rosbridge")
    sub.add_argument(
        "--node", metavar="NAME", default="policy", help="name of the node; each robot behind one server needs its own"
    )
    engines = ("auto", "native", "onnx", "numpy", "torch")
    sub.add_argument("--engine", choices=engines, default="auto", help="auto: the fastest there is")
    sub.add_argument("--spoken-ticks", type=int, help="ticks for which an instruction is seen; 0: always")
    sub.add_argument("--telemetry", type=Path, metavar="FOLDER", help="write every tick there")
    sub.add_argument("--mcap", type=Path, metavar="FILE", help="write every tick to an MCAP file, for Foxglove")
    sub.add_argument("--prometheus", type=int, metavar="PORT", help="serve metrics on 127.0.0.1")
    sub.add_argument("--fifo", type=int, metavar="PRIORITY", help="SCHED_FIFO for the controller's thread, 1 to 99")
    sub.add_argument("--cpu", type=int, action="append", default=[], metavar="N", help="run it there; repeatable")
    sub.add_argument("--lock-memory", action="store_true", help="never swap anything of this process (mlockall)")
    sub.add_argument(
        "--real-time-required",
        action="store_true",
        help="refuse to run where these are not permitted, instead of a note",
    )
    sub.add_argument("--seconds", action=Seconds, help="stop by itself after this long")

    sub = command(
        "instruct", _instruct, "Tell a running robot what to do.", 'instruct "go to the red ball" --url ws://robot:9090'
    )
    sub.add_argument("text")
    sub.add_argument("--url", help="rosbridge server (default: MCSD_ROSBRIDGE_URL, else ws://localhost:9090)")
    sub.add_argument("--topic", default="/instruction", help="where the robot listens")
    sub.add_argument(
        "--node", default="policy", help="policy node that confirms: the NAME of run --node, or /namespace/NAME"
    )
    sub.add_argument(
        "--wait", action=Seconds, metavar="SECONDS", help="as a goal: until it is done (exit code 0) or so long (1)"
    )

    sub = command(
        "doctor",
        _doctor,
        "Is a robot ready to be driven? What to put right, if not.",
        "doctor --robot configs/robots/diffdrive.yaml --url ws://robot:9090 --artifact nav.mcsd",
    )
    sub.add_argument("--robot", type=Path, required=True)
    sub.add_argument("--artifact", type=Path, help="the policy that is to drive it")
    sub.add_argument("--url", help="rosbridge server (default: MCSD_ROSBRIDGE_URL, else ws://localhost:9090)")
    sub.add_argument("--native", action="store_true", help="use native rclpy instead of rosbridge")
    sub.add_argument("--seconds", type=float, default=3.0, help="how long to listen")

    sub = command(
        "guard",
        _guard,
        "On a robot: pass on fresh commands only; stop when none come.",
        "guard --from /policy/cmd_vel --to /cmd_vel --plain",
    )
    sub.add_argument("--from", dest="source", required=True, metavar="TOPIC", help="where stamped commands come from")
    sub.add_argument("--to", dest="target", required=True, metavar="TOPIC", help="where the driver listens")
    sub.add_argument("--message", default="geometry_msgs/msg/TwistStamped", help="their type (default: %(default)s)")
    sub.add_argument("--plain", action="store_true", help="the driver takes them without a header")
    sub.add_argument("--max-age", type=float, default=0.2, metavar="S", help="older ones are refused (default: 0.2)")
    sub.add_argument("--max-ahead", type=float, default=0.05, metavar="S", help="and from the future (default: 0.05)")
    sub.add_argument("--timeout", type=float, default=0.3, metavar="S", help="stop after so long (default: 0.3)")
    sub.add_argument("--url", help="for trials: over this rosbridge server, instead of native rclpy")
    sub.add_argument("--seconds", action=Seconds, help="stop by itself after this long")

    sub = command(
        "sim",
        _sim,
        "A simulated robot on real rclpy behind a real rosbridge server.",
        "sim --robot configs/robots/diffdrive.yaml --port 9090",
    )
    sub.add_argument("--robot", type=Path, default=Path("configs/robots/diffdrive.yaml"))
    sub.add_argument("--port", type=int, default=9090)
    sub.add_argument("--seed", action=Seed, default=0, help="the arena")
    sub.add_argument("--seconds", action=Seconds, help="stop by itself after this long")

    bench = parser_of(commands, "bench", "Benchmarks, as ratios measured in one run.", "bench scan --device cpu")
    benchmarks = bench.add_subparsers(title="benchmarks", metavar="BENCHMARK", required=True)
    for name, (text, example) in _BENCHMARKS.items():
        module = importlib.import_module(f"mcsd_agent.bench.{name}")
        module.add_arguments(
            command(name, module.run, text, f"bench {example}", among=benchmarks, own_modules=name == "train")
        )

    sub = command("demo", _demo, "The whole path: train, export, start robot and bridge, obey.", "demo --out runs/demo")
    sub.add_argument("--config", type=Path, default=Path("configs/nav/demo.yaml"))
    sub.add_argument("--robot", type=Path, default=Path("configs/robots/diffdrive.yaml"))
    sub.add_argument("--out", type=Path, help="run folder (default: runs/demo-TIME)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
