"""Telemetry as an MCAP file with ROS 2 schemas, which Foxglove and `ros2 bag` open; and such files read back."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import IO, Any

from mcsd_agent.errors import UserError
from mcsd_agent.runtime.numbered_files import create, next_number, numbered
from mcsd_agent.runtime.telemetry_log import Entry

#: What a killed process may lose: a chunk is finished so often.
_CHUNK_S = 1.0
#: The writer keeps an index entry per chunk in memory: after so many the next file begins.
_CHUNKS_PER_FILE = 5000
_EXTRA = "MCAP needs the packages mcap and rosbags; install mcsd-agent with the extras [robot,telemetry]"


class Mcap:
    """The sink of a `BackgroundLog`: NAME.mcap, then NAME-2.mcap and so on, a new one every 80 minutes or so.

    Files that exist stay as they are, and the numbers go on after theirs. `path` is the file that is being written.
    """

    def __init__(self, path: str | Path, clock_offset_s: float | None = None) -> None:
        """`clock_offset_s` is wall time less the controller's clock; None takes it from the first entry.

        Raises `UserError` when a package is missing or the file cannot be made.
        """
        self._wanted = Path(path)
        if self._wanted.suffix != ".mcap":
            raise UserError(f"telemetry {str(path)!r} must have a name that ends with .mcap")
        try:
            import mcap.writer  # noqa: F401

            from mcsd_agent.runtime.ros_schemas import RosMessages
        except ModuleNotFoundError:
            raise UserError(_EXTRA) from None
        self._messages = RosMessages(clock_offset_s)
        self._number = 0
        try:
            self._wanted.parent.mkdir(parents=True, exist_ok=True)
            self._begin()
        except OSError as error:
            raise UserError(f"telemetry {str(path)!r}: {error.strerror}; give a path that can be written") from None

    def _begin(self) -> None:
        """The next file, with the definitions of all its messages."""
        from mcap.writer import Writer

        from mcsd_agent.runtime.ros_schemas import TOPICS

        self._file, self._is_empty = self._next_file(), True
        self._writer = Writer(self._file)
        self._writer.start(profile="ros2", library="mcsd-agent")
        self._channels: dict[str, int] = {}
        for topic, ros_type in TOPICS.items():
            schema = self._writer.register_schema(ros_type, "ros2msg", self._messages.definition(ros_type))
            self._channels[topic] = self._writer.register_channel(topic, "cdr", schema)
        self._chunks, self._finished_at = 0, time.monotonic()

    def _next_file(self) -> IO[bytes]:
        for number in itertools.count(max(self._number + 1, next_number(self._wanted))):
            self._number, self.path = number, numbered(self._wanted, number)
            file = create(self.path, "wb")
            if file is not None:
                return file
        raise AssertionError("unreachable")

    def write(self, entry: Entry) -> None:
        """Add the messages of one entry."""
        self._is_empty = False
        for topic, stamp_ns, data in self._messages.encode(entry, time.time()):
            self._writer.add_message(self._channels[topic], stamp_ns, data, stamp_ns)

    def flush(self) -> None:
        """Finish a chunk, at most once a second: small ones compress badly."""
        if time.monotonic() - self._finished_at < _CHUNK_S:
            return
        self._writer.flush()
        self._chunks, self._finished_at = self._chunks + 1, time.monotonic()
        if self._chunks >= _CHUNKS_PER_FILE:
            self.close()
            self._begin()

    def close(self) -> None:
        """Write the index and close the file, also when there is no room for an index; one without entries goes."""
        try:
            self._writer.finish()
        finally:
            self._file.close()
            if self._is_empty and self.path.is_file():
                self.path.unlink()


def read_mcap(path: str | Path) -> list[dict[str, Any]]:
    """The ticks in an MCAP file as `Tick.to_json` gives them; what a killed process left unfinished is left out."""
    try:
        from mcap.reader import NonSeekingReader

        from mcsd_agent.runtime.ros_schemas import NUMBER, TICK, RosMessages
    except ModuleNotFoundError:
        raise UserError(_EXTRA) from None
    messages = RosMessages()
    ticks: list[dict[str, Any]] = []
    try:
        with Path(path).open("rb") as file:
            # In the order of the file: without its index, as a killed process leaves it, there is no other.
            for schema, _, message in NonSeekingReader(file).iter_messages(log_time_order=False):
                if schema is not None and schema.name == TICK:
                    ticks.append(messages.decode_tick(message.data))
                elif schema is not None and schema.name == NUMBER and ticks:
                    ticks[-1]["success"] = messages.decode_number(message.data)  # of the tick before
    except OSError as error:
        raise UserError(f"telemetry {str(path)!r}: {error.strerror}; give an MCAP file of `run --mcap`") from None
    except Exception as error:  # whatever three packages raise for bytes that are not theirs, or end too early
        if not ticks:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"telemetry {str(path)!r} is no MCAP file of the controller's: {reason}") from None
    if not ticks:
        raise UserError(f"telemetry {str(path)!r} holds no ticks; let the controller run first")
    return ticks
