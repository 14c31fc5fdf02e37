"""rosbridge frames: to JSON, and from JSON or CBOR with a bound on what a frame may become in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ros_bridge import cbor

#: Largest message accepted or sent, bytes: the limit of the usual servers. A larger one closes the link.
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
#: Memory that one decoded frame may take, bytes, by `weigh`'s estimate.
MAX_FRAME_MEMORY = 64 * 1024 * 1024

#: What a JSON token may cost in memory: an item's place and number; a key's place; a dict; a list; half a string.
_COSTS = {b",": 40, b":": 60, b"{": 240, b"[": 100, b'"': 40}


class FrameError(ValueError):
    """A frame that cannot be read; `kind` is `malformed`, `binary` (malformed CBOR) or `heavy`."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def encode(frame: Mapping[str, Any]) -> bytes:
    """The JSON text of a frame; `ValueError` for NaN, infinity, foreign objects or an oversized message."""
    try:
        payload = json.dumps(frame, allow_nan=False, separators=(",", ":")).encode()
    except TypeError as error:
        raise ValueError(f"{_name(frame)}: {error}") from None
    except ValueError:
        raise ValueError(f"{_name(frame)}: NaN or infinity in the message; rosbridge JSON cannot carry it") from None
    if len(payload) > MAX_MESSAGE_BYTES:
        raise ValueError(f"message of {len(payload)} bytes exceeds {MAX_MESSAGE_BYTES}; send it compressed or smaller")
    return payload


def decode(payload: bytes, is_binary: bool) -> tuple[dict[str, Any], int]:
    """The frame in `payload`, with a text `op`, and the memory it takes, bytes; `FrameError` otherwise.

    Arrays of numbers in CBOR are NumPy arrays, bytes are `bytes`.
    """
    kind, size = ("binary", len(payload)) if is_binary else ("malformed", weigh(payload))
    try:
        if size > MAX_FRAME_MEMORY:
            raise MemoryError(f"could take {size} bytes of memory; {MAX_FRAME_MEMORY} is the limit")
        if is_binary:
            frame, size = cbor.loads(payload, MAX_FRAME_MEMORY)
        else:
            frame = json.loads(payload.decode())
    except (ValueError, RecursionError) as error:
        raise FrameError(kind, f"{type(error).__name__}: {error}"[:200]) from None
    except MemoryError as error:
        raise FrameError("heavy", f"frame of {len(payload)} bytes {error}") from None
    if not isinstance(frame, dict) or not isinstance(frame.get("op"), str):
        raise FrameError(kind, "no JSON object with an op")
    return frame, size


def weigh(payload: bytes) -> int:
    """An upper estimate of the memory that JSON takes once it is decoded, bytes, without decoding it."""
    # Any character beyond Latin-1, also one that is escaped, makes its text four bytes a character.
    width = 1 if payload.isascii() and b"\\u" not in payload else 4
    return width * len(payload) + sum(cost * payload.count(token) for token, cost in _COSTS.items())


def _name(frame: Mapping[str, Any]) -> str:
    return str(frame.get("topic") or frame.get("service") or frame.get("op"))
