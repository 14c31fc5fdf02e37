"""Checkpoint files: two of them, each whole or not there, each with a checksum.

A file is what `torch.save` writes, with its SHA-256 as the comment of the zip archive that it is, so that a file
which the disk tore or bent is noticed, and `torch.load(weights_only=True)` still opens it. A new one is written
beside the others, forced to the disk, and only then takes the newest one's name; that one stays as the previous.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mcsd_agent.errors import UserError

_PREFIX = b"sha256:"
_COMMENT_BYTES = len(_PREFIX) + 64


class Torn(Exception):
    """A file that is not what was written."""


class CheckpointFiles:
    """The newest checkpoint at `newest`, and the one before it beside it."""

    def __init__(self, newest: Path) -> None:
        self.newest = newest
        self.previous = newest.with_suffix(f".previous{newest.suffix}")
        # A torn newest file must not push out the good one before it.
        self._newest_is_whole = False

    def save(self, data: dict[str, Any]) -> None:
        """Tensors and plain values; `OSError` when they cannot be written, and then both files are as before."""
        part = self.newest.with_suffix(".part")
        try:
            write_whole(part, data)
        except OSError:
            part.unlink(missing_ok=True)
            raise
        if self._newest_is_whole and self.newest.is_file():
            os.replace(self.newest, self.previous)
        os.replace(part, self.newest)
        _sync(self.newest.parent)
        self._newest_is_whole = True

    def load(self, note: Callable[[str], None]) -> dict[str, Any] | None:
        """The newest whole checkpoint, None when there never was one; `note` is told when the newest is torn."""
        problems = []
        for path in (self.newest, self.previous):
            if not path.is_file():
                continue
            try:
                data = read_whole(path)
            except Torn as error:
                problems.append(f"checkpoint {str(path)!r} {error}")
                continue
            if problems:
                note(f"{problems[0]}; going on from the one before it, {path.name!r}")
            self._newest_is_whole = path == self.newest
            return data
        if problems:
            raise UserError(f"{'; '.join(problems)}; there is no other: start the run again in another folder")
        return None


def write_whole(path: Path, data: dict[str, Any]) -> None:
    """Write a file with its checksum and force it to the disk."""
    # Into memory first: a full disk is then an OSError of ours and not a half-written archive of torch's.
    buffer = io.BytesIO()
    torch.save(data, buffer)
    content = buffer.getbuffer()
    comment = _PREFIX + hashlib.sha256(content).hexdigest().encode()
    with path.open("wb") as file:
        file.write(content[:-2])  # the archive ends with the length of its comment, which is 0
        file.write(len(comment).to_bytes(2, "little") + comment)
        file.flush()
        os.fsync(file.fileno())


def read_whole(path: Path) -> dict[str, Any]:
    """What `write_whole` wrote; `Torn` when the file is anything else. Only tensors and plain values are accepted."""
    content = path.read_bytes()
    end = len(content) - _COMMENT_BYTES
    digest = hashlib.sha256(content[: end - 2] + b"\0\0").hexdigest() if end > 2 else ""
    if content[max(end, 0) :] != _PREFIX + digest.encode():
        raise Torn("cannot be read: its checksum does not fit its content")
    try:
        # a machine without the device that it was written on can read it, too
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch finds in it, it is not a checkpoint
        raise Torn(f"cannot be read ({type(error).__name__})") from None


def _sync(folder: Path) -> None:
    """Names are part of the folder, which has to reach the disk too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
