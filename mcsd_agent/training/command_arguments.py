"""What several commands take, and the type of what they all return."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from mcsd_agent import strict
from mcsd_agent.errors import UserError
from mcsd_agent.number_arguments import Seed

#: What a command returns; printed as one JSON object with `--json`.
Result = dict[str, Any]


class AddCommand(Protocol):
    """Makes the parser of one command: its name, what does it, what it is for, an example."""

    def __call__(
        self, name: str, function: Callable[[argparse.Namespace], Result], text: str, example: str
    ) -> argparse.ArgumentParser: ...


def add_task(sub: argparse.ArgumentParser) -> None:
    """A config, or an environment by its id."""
    sub.add_argument("config", type=Path, nargs="?", help="YAML file; or give --env")
    sub.add_argument("--env", metavar="ID", help="any Gymnasium environment, with settings that suit it")
    add_env_kwargs(sub)


def add_env_kwargs(sub: argparse.ArgumentParser) -> None:
    """The file with the environment's arguments."""
    sub.add_argument("--env-kwargs", type=Path, metavar="FILE.yaml", help="arguments of the --env; --set changes them")


def env_kwargs_of(options: argparse.Namespace) -> dict[str, Any]:
    """What is in the file; `UserError` where it belongs to no environment."""
    if options.env_kwargs is None:
        return {}
    if options.env is None:
        raise UserError(f"--env-kwargs {str(options.env_kwargs)!r} needs --env, whose arguments they are")
    return strict.load_yaml(options.env_kwargs)


def add_set(sub: argparse.ArgumentParser, of: str) -> None:
    """`--set`, which changes `of`."""
    sub.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=f"change {of}; repeatable")


def add_seed(sub: argparse.ArgumentParser) -> None:
    """`--seed`, a short form of `--set seed=N`."""
    sub.add_argument("--seed", action=Seed, metavar="N", help="as --set seed=N")


def settings_of(options: argparse.Namespace) -> list[str]:
    """What `--set` and `--seed` change, as `--set` reads it; `UserError` where both give a seed."""
    if options.seed is None:
        return list(options.set)
    twice = next((text for text in options.set if text.startswith("seed=")), None)
    if twice is not None:
        raise UserError(f"--seed {options.seed} and --set {twice} exclude each other; give one of them")
    return [*options.set, f"seed={options.seed}"]
