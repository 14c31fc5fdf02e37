"""The folder of one run: what was asked for, with which versions, and what came out.

config.yaml    resolved config            metrics.csv            one row per report
versions.json  packages, git, seed        policy.mcsd            the artifact, when training ended
checkpoint.pt  for --resume               best.pt, best.mcsd     where evaluation was best
curve.png, tensorboard/                   evaluation.json, evaluation.mp4
"""

from __future__ import annotations

import csv
import fcntl
import importlib.metadata
import io
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import yaml

from mcsd_agent.errors import UserError
from mcsd_agent.strict import load_yaml, to_dict
from mcsd_agent.training.checkpoint_file import CheckpointFiles

_PACKAGES = ("mcsd-agent", "torch", "numpy", "gymnasium", "stable-baselines3", "mujoco", "onnxruntime")


class RunFolder:
    """Creates or reopens the folder and writes its files, each atomically but for the growing table."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._columns: list[str] = []
        self._checkpoints = CheckpointFiles(self.checkpoint)

    @classmethod
    def create(cls, path: Path | None, kind: str, config: Any, *, written_as: str | None = None) -> RunFolder:
        """A new folder; without a path, `runs/KIND-YYYYmmdd-HHMMSS`. An existing one is never overwritten.

        `written_as` is the kind that config.yaml gives, where it is not that of the name.
        """
        path = path or Path("runs") / f"{kind}-{time.strftime('%Y%m%d-%H%M%S')}"
        if (path / "config.yaml").exists():
            raise UserError(f"run folder {str(path)!r} exists already; choose another --out, or --resume it")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"run folder {str(path)!r} cannot be made ({error.strerror}); choose another --out"
            ) from None
        run = cls(path)
        run.write_config(written_as or kind, config)
        run.write_json("versions.json", {**_versions(), "seed": getattr(config, "seed", None)})
        return run

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """An existing folder; `UserError` when it is none."""
        if not (path / "config.yaml").is_file():
            raise UserError(
                f"{str(path)!r} is not a run folder: it has no config.yaml; give the folder that --out named"
            )
        run = cls(path)
        table = path / "metrics.csv"
        if table.is_file():
            with table.open(newline="") as file:
                run._columns = next(csv.reader(file), [])
        return run

    def stored_config(self) -> tuple[str, dict[str, Any]]:
        """The kind of run and its resolved config, as mappings."""
        stored = load_yaml(self.path / "config.yaml")
        return str(stored.pop("kind", None)), stored

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """While a process writes here no other one may; the system frees the folder when the process dies."""
        with self._lock_file() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"run folder {str(self.path)!r} is in use by another process; wait for it or end it"
                ) from None
            yield

    def _lock_file(self) -> IO[str]:
        try:
            return (self.path / ".lock").open("w")
        except OSError as error:
            raise UserError(
                f"run folder {str(self.path)!r} cannot be written to ({error.strerror}); make it writable, or copy it"
            ) from None

    @property
    def artifact(self) -> Path:
        """Where the run's artifact is, or will be."""
        return self.path / "policy.mcsd"

    @property
    def best(self) -> Path:
        """The weights that did best in an evaluation while training."""
        return self.path / "best.pt"

    @property
    def checkpoint(self) -> Path:
        """Where `--resume` begins."""
        return self.path / "checkpoint.pt"

    def write_config(self, kind: str, config: Any) -> None:
        """The resolved config, as it is now: a resumed run may have been given another number of steps."""
        self.write_text("config.yaml", yaml.safe_dump({"kind": kind, **_plain(to_dict(config))}, sort_keys=False))

    def write_text(self, name: str, text: str) -> None:
        """Replace a file at once or not at all."""
        temporary = self.path / f".{name}.part"
        temporary.write_text(text, encoding="utf-8", newline="")
        os.replace(temporary, self.path / name)

    def write_json(self, name: str, data: Any) -> None:
        """A small JSON file."""
        self.write_text(name, json.dumps(data, indent=2) + "\n")

    def read_json(self, name: str) -> Any:
        """What `write_json` wrote, None where it did not."""
        file = self.path / name
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None

    def discard(self) -> None:
        """Take back a folder whose run could not begin; one in which anything was learnt is left alone."""
        if self.has_checkpoint or (self.path / "metrics.csv").is_file():
            return
        for name in ("config.yaml", "versions.json", "environment.json", ".lock"):
            (self.path / name).unlink(missing_ok=True)
        with suppress(OSError):  # it was there before, with something of someone else's in it
            self.path.rmdir()

    def drop_results(self) -> None:
        """Take away what a run's end has left, since training goes on: it would be taken for what comes of that.

        The artifact goes last, so that until then whatever is read is of one and the same policy.
        """
        for name in ("finished.json", "evaluation.json", "best.mcsd", self.artifact.name):
            (self.path / name).unlink(missing_ok=True)

    def add_metrics(self, row: dict[str, Any]) -> None:
        """Append one row to metrics.csv; a column that is new is added to the rows before."""
        table = self.path / "metrics.csv"
        fresh = [name for name in row if name not in self._columns]
        if fresh:
            before = list(csv.DictReader(table.read_text().splitlines())) if table.is_file() else []
            self._columns += fresh
            self._write_metrics(before)
        with table.open("a", newline="") as file:
            formatted = {k: f"{v:.9g}" if isinstance(v, float) else v for k, v in row.items()}
            csv.DictWriter(file, self._columns).writerow(formatted)

    def drop_metrics_after(self, timesteps: int) -> None:
        """Forget rows beyond a number of steps, and one that was cut short: they are about to come again."""
        table = self.path / "metrics.csv"
        if not table.is_file():
            return
        header, *rows = list(csv.reader(table.read_text().splitlines())) or [[]]
        kept = [
            dict(zip(header, row, strict=True))
            for row in rows
            if len(row) == len(header) and row[0].isdigit() and int(row[0]) <= timesteps
        ]
        self._columns = header
        self._write_metrics(kept)

    def _write_metrics(self, rows: list[dict[str, Any]]) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns)
        writer.writeheader()
        writer.writerows(rows)
        self.write_text("metrics.csv", text.getvalue())

    def save_checkpoint(self, data: dict[str, Any]) -> None:
        """Tensors and plain values; `OSError` when they cannot be written, and the last checkpoint stays."""
        self._checkpoints.save(data)

    def load_checkpoint(self, note: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
        """The last whole checkpoint; `note` is told when a newer one is torn."""
        data = self._checkpoints.load(note)
        if data is None:
            raise UserError(f"run {str(self.path)!r} has no checkpoint yet; train --resume it, or imitate anew")
        return data

    @property
    def has_checkpoint(self) -> bool:
        """Whether training got as far as one."""
        return any(p.is_file() for p in (self._checkpoints.newest, self._checkpoints.previous))


def _plain(data: Any) -> Any:
    if isinstance(data, dict):
        return {k: _plain(v) for k, v in data.items()}
    if isinstance(data, (list, tuple)):
        return [_plain(v) for v in data]
    return str(data) if isinstance(data, Path) else data


def _versions() -> dict[str, Any]:
    versions: dict[str, Any] = {"python": platform.python_version(), "machine": platform.machine()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    versions["git"] = _git_revision()
    return versions


def _git_revision() -> str | None:
    """The revision of this checkout; None outside one, or without git."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent, check=False
        )
    except OSError:
        return None
    return done.stdout.strip() or None
