"""The folder of one run: what was asked for, with which versions, and what came out.

config.yaml   resolved config            metrics.csv   one row per report
versions.json packages, git, seed        policy.mcsd   the artifact, when training ended
checkpoint.pt for --resume               curve.png, evaluation.json
"""

from __future__ import annotations

import csv
import importlib.metadata
import io
import json
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import torch
import yaml

from mcsd_agent.errors import UserError
from mcsd_agent.strict import to_dict

_PACKAGES = ("mcsd-agent", "torch", "numpy", "gymnasium", "stable-baselines3", "mujoco", "onnxruntime")


class RunFolder:
    """Creates or reopens the folder and writes its files, each atomically but for the growing table."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._columns: list[str] = []

    @classmethod
    def create(cls, path: Path | None, kind: str, config: Any) -> RunFolder:
        """A new folder; without a path, `runs/KIND-YYYYmmdd-HHMMSS`. An existing one is never overwritten."""
        path = path or Path("runs") / f"{kind}-{time.strftime('%Y%m%d-%H%M%S')}"
        if (path / "config.yaml").exists():
            raise UserError(f"run folder {str(path)!r} exists already; choose another --out, or --resume it")
        path.mkdir(parents=True, exist_ok=True)
        run = cls(path)
        run.write_config(kind, config)
        run.write_json("versions.json", _versions())
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

    @property
    def artifact(self) -> Path:
        """Where the run's artifact is, or will be."""
        return self.path / "policy.mcsd"

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

    def add_metrics(self, row: dict[str, Any]) -> None:
        """Append one row to metrics.csv; a column that is new is added to the rows before."""
        table = self.path / "metrics.csv"
        fresh = [name for name in row if name not in self._columns]
        if fresh:
            before = list(csv.DictReader(table.read_text().splitlines())) if table.is_file() else []
            self._columns += fresh
            text = io.StringIO(newline="")
            writer = csv.DictWriter(text, self._columns)
            writer.writeheader()
            writer.writerows(before)
            self.write_text("metrics.csv", text.getvalue())
        with table.open("a", newline="") as file:
            formatted = {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()}
            csv.DictWriter(file, self._columns).writerow(formatted)

    def save_checkpoint(self, data: dict[str, Any]) -> None:
        """Tensors and plain values, replaced atomically."""
        temporary = self.checkpoint.with_suffix(".part")
        torch.save(data, temporary)
        os.replace(temporary, self.checkpoint)

    def load_checkpoint(self) -> dict[str, Any]:
        """The last checkpoint; only tensors and plain values are accepted."""
        if not self.checkpoint.is_file():
            raise UserError(f"run {str(self.path)!r} has no checkpoint yet; start it again without --resume")
        try:
            return torch.load(self.checkpoint, weights_only=True)
        except Exception as error:
            raise UserError(f"checkpoint {str(self.checkpoint)!r} cannot be read ({type(error).__name__})") from None


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
