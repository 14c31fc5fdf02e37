"""Writing a file: all of it or nothing, whenever the machine stops."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from mcsd_agent.errors import UserError


def write_whole(path: Path, data: bytes) -> None:
    """Writes or replaces `path`; raises `UserError` where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise UserError(f"{str(path)!r}: {error.strerror}; give a path that can be written") from None
