"""Telemetry logs read back, whichever way they were written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mcsd_agent.errors import UserError
from mcsd_agent.runtime.numbered_files import newest
from mcsd_agent.runtime.telemetry import FILE_NAME


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """The ticks in a `telemetry.jsonl`, the run folder that holds one, or an MCAP file, as `Tick.to_json` gives them.

    Of a folder with several, `telemetry-2.jsonl` and so on, the newest that holds anything is read. What a killed
    process left unfinished at the end is left out.
    """
    path = Path(path)
    if path.suffix == ".mcap":
        from mcsd_agent.runtime.mcap_log import read_mcap

        return read_mcap(path)
    path = newest(path / FILE_NAME) if path.is_dir() else path
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise UserError(f"telemetry {str(path)!r}: {reason}; give a run folder or its {FILE_NAME}") from None
    ticks: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            tick = json.loads(line)
            if not isinstance(tick, dict) or not {"index", "time", "reason"} <= tick.keys():
                raise ValueError
        except ValueError:
            if number == len(lines) and ticks:
                break
            raise UserError(f"telemetry {str(path)!r}: line {number} is no tick; give a {FILE_NAME}") from None
        ticks.append(tick)
    if not ticks:
        raise UserError(f"telemetry {str(path)!r} holds no ticks; let the controller run first")
    return ticks
