"""Demonstrations straight to a file: what is in memory is a few episodes, however many are recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcsd_agent.errors import UserError
from mcsd_agent.training.demos import RecordConfig, record_blocks, save_demonstrations
from mcsd_agent.training.episodes import Episode


@dataclass(frozen=True)
class Recorded:
    """What a recording came to."""

    wanted: int
    episodes: int
    steps: int
    left_out: dict[str, int]

    def __str__(self) -> str:
        reasons = "; ".join(f"{n} left out: {why}" for why, n in self.left_out.items())
        return f"{self.episodes} of {self.wanted} episodes kept, {self.steps} steps{'; ' if reasons else ''}{reasons}"

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return {"episodes": self.episodes, "steps": self.steps, "left_out": self.left_out}


def record_to(path: Path, config: RecordConfig, seed: int, report: Callable[[str, float, str], None]) -> Recorded:
    """Record as `config` says from `seed` on, into the folder `path`, which must not exist yet."""
    if path.exists():
        raise UserError(f"demonstrations {str(path)!r} exist already; choose another folder or delete it")
    left_out: Counter[str] = Counter()

    def episodes() -> Iterator[Episode]:
        total = 0
        for block in record_blocks(config, seed):
            total += block.seeds
            left_out.update(block.left_out)
            report("record", total / config.episodes, f"{total} of {config.episodes} episodes")
            yield from block.episodes

    kept, steps = save_demonstrations(episodes(), path, config.env, config.env_kwargs, config.expert)
    return Recorded(config.episodes, kept, steps, dict(left_out.most_common()))
