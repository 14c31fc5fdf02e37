"""Files that never take the place of an earlier record: NAME.jsonl, then NAME-2.jsonl and so on."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any


def numbered(path: Path, number: int) -> Path:
    """`path` for 1, its sibling with the number after its name for more."""
    return path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")


def create(path: Path, mode: str, **options: Any) -> IO[Any] | None:
    """Open a new file in a mode with w; None where there is one already, possibly another process's of this moment.

    A device or a pipe holds no record and is opened as it is.
    """
    try:
        return path.open(mode.replace("w", "x"), **options)
    except FileExistsError:
        return None if path.is_file() or path.is_dir() else path.open(mode, **options)


def next_number(path: Path) -> int:
    """One more than any sibling has: a gap is what somebody removed, and later records have higher numbers."""
    return max(_siblings(path), default=0) + 1


def newest(path: Path) -> Path:
    """The sibling of the highest number that holds anything; `path` itself where there is none."""
    filled = {number: file for number, file in _siblings(path).items() if file.stat().st_size}
    return filled[max(filled)] if filled else path


def _siblings(path: Path) -> dict[int, Path]:
    files = path.parent.glob(f"*{path.suffix}")
    return {number: file for file in files if (number := _number(path, file)) and file.is_file()}


def _number(path: Path, file: Path) -> int:
    """Which sibling of `path` the file is; 0 for none."""
    if file.name == path.name:
        return 1
    digits = file.stem.removeprefix(f"{path.stem}-")
    return int(digits) if digits.isdecimal() and numbered(path, int(digits)).name == file.name else 0
