"""Bags (rosbag2 folders, `.mcap` and `.db3` files) read and written without ROS, by the `rosbags` package.

What a killed recorder left behind has no end: it is read as far as its storage format allows, or refused in one line.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from mcsd_agent.errors import UserError
from ros_bridge import interface_text

Storage = Literal["mcap", "sqlite3"]
_PLUGINS = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}
#: Version 9 is Jazzy's; Humble and Iron read 8 too.
_VERSION: Literal[8] = 8


def interface_folders(own: Path | None) -> list[Path]:
    """Where messages are that Jazzy does not ship: in this package, and in a robot's `own` folder."""
    return [Path(__file__).with_name("interfaces"), *([] if own is None else [own])]


def typestore_with(own: Path | None) -> Any:
    """Jazzy's messages and those of the `interface_folders`."""
    store = get_typestore(Stores.ROS2_JAZZY)
    types: dict[str, Any] = {}
    for folder in interface_folders(own):
        for name, text in interface_text.find(folder).items():
            if "/msg/" in name and name not in store.fielddefs:
                types |= get_types_from_msg(text, name)
    store.register(types)
    return store


class BagReader:
    """The messages of some topics, in the order of the bag.

    with BagReader(path, {"/scan": "sensor_msgs/msg/LaserScan"}, optional={}) as bag:
        for seconds, topic, message in bag: ...

    Every method raises `UserError`, in one line, for what is no bag, is broken, lacks one of the topics `wanted`, or
    has one of them, or of those that are `optional`, with another type.
    """

    def __init__(
        self, path: Path, wanted: Mapping[str, str], optional: Mapping[str, str], interfaces: Path | None = None
    ) -> None:
        self.path = path
        self._store = typestore_with(interfaces)
        self._reader: Any = None
        try:
            self._reader = Reader(path)
            self._reader.open()
            self.topics = {c.topic: c.msgtype for c in self._reader.connections if c.msgcount}
        except Exception as error:  # whatever several packages raise for files that are not theirs, or end too early
            raise self._broken(error) from None
        for topic, ros_type in {**optional, **wanted}.items():
            found = self.topics.get(topic)
            if found is None and topic in wanted:
                self.close()
                has = ", ".join(sorted(self.topics)) or "nothing"
                raise UserError(f"bag {str(path)!r} has no message on the robot's topic {topic}; it has {has}")
            if found is not None and found != ros_type:
                self.close()
                raise UserError(f"bag {str(path)!r} has {found} on {topic}; the robot's YAML expects {ros_type}")
        self._chosen = {**optional, **wanted}

    def __enter__(self) -> BagReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[tuple[float, str, Any]]:
        """Time in seconds at which it was recorded, topic and message."""
        connections = [c for c in self._reader.connections if c.topic in self._chosen]
        messages = self._reader.messages(connections)
        while True:
            try:
                connection, stamp_ns, data = next(messages)
                message = self._store.deserialize_cdr(data, connection.msgtype)
            except StopIteration:
                return
            except Exception as error:
                raise self._broken(error) from None
            yield stamp_ns * 1e-9, connection.topic, message

    def close(self) -> None:
        """Close the files. May be called twice."""
        reader, self._reader = self._reader, None
        if reader is not None and reader.is_open:
            reader.close()

    def _broken(self, error: Exception) -> UserError:
        reader, self._reader = self._reader, None
        if reader is not None and reader.is_open:
            reader.close()
        reason = " ".join(str(error).split()) or type(error).__name__
        return UserError(
            f"bag {str(self.path)!r} cannot be read ({reason}); give a rosbag2 folder, an .mcap or a .db3 file, and "
            "repair what a killed recorder left with: ros2 bag reindex, or mcap recover"
        )


class BagWriter:
    """A new bag in the folder `path`, which must not exist yet; complete when the context is left, or gone.

    Raises `UserError` for a folder that exists or cannot be written.
    """

    def __init__(self, path: Path, storage: Storage, interfaces: Path | None = None) -> None:
        if storage not in _PLUGINS:
            raise UserError(f"storage {storage!r} is not valid; choose mcap or sqlite3")
        if path.exists():
            raise UserError(f"bag {str(path)!r} exists already; choose another folder or delete it")
        self._store = typestore_with(interfaces)
        self._writer = Writer(path, version=_VERSION, storage_plugin=_PLUGINS[storage])
        self._connections: dict[str, Any] = {}

    def __enter__(self) -> BagWriter:
        try:
            self._writer.open()
        except OSError as error:
            path = str(self._writer.path)
            raise UserError(f"bag {path!r}: {error.strerror}; give a folder that can be made") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, trace)
        if kind is not None:
            shutil.rmtree(self._writer.path, ignore_errors=True)

    def add(self, topic: str, stamp_ns: int, message: Any) -> None:
        """Add a message of `ros_bridge.messages`, recorded at `stamp_ns`."""
        ros_type = message.ROS_TYPE
        connection = self._connections.get(topic)
        if connection is None:
            connection = self._writer.add_connection(topic, ros_type, typestore=self._store)
            self._connections[topic] = connection
        self._writer.write(connection, stamp_ns, self._store.serialize_cdr(message, ros_type))
