"""ROS message and service classes without ROS, made at run time from the `rosbags` type store (Jazzy).

    from ros_bridge.messages import load
    Twist = load("geometry_msgs/msg/Twist")
    message = Twist()                       # every field has its default
    message.linear.x = 0.3                  # checked, as at construction

The rules are rclpy's own: a float field takes a float (not 1), an integer must fit, a byte is `bytes` of
length 1, unknown fields are refused. Numeric sequences are NumPy arrays. What rclpy refuses with an
`AssertionError` raises `MessageError` here, which is both an `AssertionError` and a `ValueError`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_typestore

from mcsd_agent.errors import UserError, nearest
from ros_bridge import action_types, interface_text
from ros_bridge.message_fields import Array, Field, Nested, Scalar, spelling
from ros_bridge.message_fields import MessageError as MessageError
from ros_bridge.service_types import SERVICES

#: rosbags drops the defaults that .msg files state; these are all there are in Jazzy's standard packages.
_STATED_DEFAULTS: dict[tuple[str, str], Any] = {
    ("geometry_msgs/msg/Quaternion", "w"): 1.0,
    ("sensor_msgs/msg/NavSatStatus", "status"): -2,
}

#: Packages of messages, services and actions that are known without being registered, beside those of rosbags.
_SHIPPED = Path(__file__).with_name("interfaces")

# rosbags stands this member in for "no fields"; it is not part of the message.
_PLACEHOLDER = "structure_needs_at_least_one_member"


class Message:
    """A generated message class derives from this; see the module's docstring."""

    ROS_TYPE: ClassVar[str] = ""
    FIELDS: ClassVar[dict[str, Field]] = {}
    __slots__ = ()

    def __init__(self, **kwargs: Any) -> None:
        for name in kwargs:
            if name not in self.FIELDS:
                raise MessageError(f"{self.ROS_TYPE} has no field {name!r}{nearest(name, self.FIELDS)}")
        for name, field in self.FIELDS.items():
            if name in kwargs:
                setattr(self, name, kwargs[name])
            else:
                stated = _STATED_DEFAULTS.get((self.ROS_TYPE, name))
                # Checked as if given, which also copies a stated list.
                setattr(self, name, stated) if stated is not None else object.__setattr__(self, name, field.default())

    def __setattr__(self, name: str, value: Any) -> None:
        field = self.FIELDS.get(name)
        if field is None:
            raise AttributeError(f"{self.ROS_TYPE} has no field {name!r}{nearest(name, self.FIELDS)}")
        try:
            value = field.check(value)
        except MessageError as error:
            raise MessageError(f"{self.ROS_TYPE}.{name} {error}") from None
        object.__setattr__(self, name, value)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(_same(getattr(self, name), getattr(other, name)) for name in self.FIELDS)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={_plain(getattr(self, name))!r}" for name in self.FIELDS)
        return f"{self.ROS_TYPE.replace('/', '.')}({values})"

    def __reduce__(self) -> tuple[Any, ...]:
        # The class is made at run time: whoever unpickles has to make it too, from the type's name.
        return _restored, (self.ROS_TYPE, [getattr(self, name) for name in self.FIELDS])

    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]:
        """Field names and their types, as rclpy spells them."""
        return {name: spelling(field) for name, field in cls.FIELDS.items()}


def _restored(ros_type: str, values: list[Any]) -> Message:
    cls = load(ros_type)
    message: Message = cls.__new__(cls)
    for name, value in zip(cls.FIELDS, values, strict=True):
        object.__setattr__(message, name, value)
    return message


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, np.ndarray):
        return np.array_equal(left, right, equal_nan=False)
    return left == right


@functools.cache
def _definitions() -> dict[str, Any]:
    """`(constants, members)` by type name: the store's messages and the parts of services and actions."""
    return dict(get_typestore(Stores.ROS2_JAZZY).fielddefs)


#: Services and actions by name, and the classes of their parts. Registered ones join those of Jazzy.
_COMPOUNDS: dict[str, str] = {**SERVICES, **action_types.ACTIONS}
_PARTS = {"srv": ("Request", "Response"), "action": ("Goal", "Result", "Feedback")}


@functools.cache
def _shipped() -> dict[str, Path]:
    return interface_text.find_files(_SHIPPED)


def _find(ros_type: str) -> None:
    """Define what is shipped as a file, or as a text of `_COMPOUNDS`, when it is used first."""
    file = _shipped().get(ros_type)
    if file is not None:
        _define(ros_type, interface_text.read(file))
    elif ros_type in _COMPOUNDS:
        _define(ros_type, _COMPOUNDS[ros_type])


def type_names() -> Iterable[str]:
    """Every known message type."""
    return [name for name in dict.fromkeys([*_definitions(), *_shipped()]) if "/msg/" in name]


def all_names() -> list[str]:
    """Every known message, service and action type."""
    return [*type_names(), *_compound_names()]


def _compound_names() -> list[str]:
    return list(dict.fromkeys([*_COMPOUNDS, *(name for name in _shipped() if "/msg/" not in name)]))


def register(ros_type: str, text: str) -> Any:
    """Make a type known from the text of its `.msg`, `.srv` or `.action` file, and return its class.

    Raises `UserError` for text that cannot be read, or another definition of a known type.
    """
    _find(ros_type)  # what is known may not have been used yet
    _define(ros_type, text)
    return load(ros_type)


def _define(ros_type: str, text: str) -> None:
    definitions, defaults = interface_text.parse(ros_type, text)
    if "/action/" in ros_type:
        definitions.update(action_types.carriers(ros_type))
    for name, definition in definitions.items():
        if _stated(_definitions().setdefault(name, definition)) != _stated(definition):
            raise UserError(f"{ros_type} is known already, with other fields; take another package name")
    _STATED_DEFAULTS.update(defaults)
    if "/msg/" not in ros_type:
        _COMPOUNDS[ros_type] = text


def _stated(definition: Any) -> str:
    """What can be compared of a definition: constants and members as a file states them."""
    constants, members = definition
    return repr((constants, [member for member in members if member[0] != _PLACEHOLDER]))


def register_files(path: str | Path) -> list[str]:
    """`register` for `package/msg/Name.msg` and the like: one file, or all below a folder. The types' names."""
    files = interface_text.find_files(path)
    for name, file in files.items():
        text = interface_text.read(file)
        try:
            register(name, text)
        except UserError as error:
            raise UserError(f"interface file {str(file)!r}: {error}") from None
    return list(files)


@functools.cache
def load(ros_type: str) -> Any:
    """The class of `package/msg/Name`; of `package/srv/Name` with `.Request` and `.Response`; of
    `package/action/Name` with `.Goal`, `.Result`, `.Feedback` and rclpy's `.Impl`.

    Raises `UserError` for an unknown type.
    """
    _find(ros_type)
    if ros_type in _COMPOUNDS:
        kind = ros_type.split("/")[1]
        others = {"Impl": _action_carriers(ros_type)} if kind == "action" else {}
        return _compound(ros_type, _PARTS[kind], **others)
    # A part of one: `Name_Request`, `Name_SendGoal_Response`. Names themselves have no underscore.
    package, _, name = ros_type.rpartition("/")
    _find(f"{package}/{name.partition('_')[0]}")
    fields = _definitions().get(ros_type)
    if fields is None:
        raise UserError(f"unknown ROS type {ros_type!r}{nearest(ros_type, all_names())}")
    constants, members = fields
    body = {name: _constant(kind, value) for name, kind, value in constants}
    body["__module__"] = _module_name(ros_type)
    body["FIELDS"] = {name: _field(member) for name, member in members if name != _PLACEHOLDER}
    body["ROS_TYPE"] = ros_type
    body["__slots__"] = tuple(body["FIELDS"])
    body["__doc__"] = f"Message {ros_type}."
    return type(ros_type.rsplit("/", 1)[1], (Message,), body)


def _compound(ros_type: str, parts: Iterable[str], **others: Any) -> Any:
    """A class that only holds the classes of its parts."""
    body = {"ROS_TYPE": ros_type, **{part: load(f"{ros_type}_{part}") for part in parts}, **others}
    body.update({"__doc__": f"{ros_type}.", "__module__": _module_name(ros_type)})
    return type(ros_type.rsplit("/", 1)[1], (), body)


def _action_carriers(ros_type: str) -> Any:
    services = {
        name: _compound(f"{ros_type}_{part}", _PARTS["srv"]) for name, part in action_types.SERVICE_PARTS.items()
    }
    body = {
        **services,
        "FeedbackMessage": load(f"{ros_type}_{action_types.FEEDBACK_MESSAGE}"),
        "CancelGoalService": load("action_msgs/srv/CancelGoal"),
        "GoalStatusMessage": load("action_msgs/msg/GoalStatusArray"),
    }
    return type("Impl", (), body)


def _module_name(ros_type: str) -> str:
    """Where rclpy's class is: `geometry_msgs.msg._pose_stamped`."""
    package, kind, name = ros_type.split("/")
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name.partition("_")[0]))
    return f"{package}.{kind}._{words.lower()}"


def _constant(kind: str, value: Any) -> Any:
    return bytes([value]) if kind in ("byte", "octet") else value


def _field(member: Any) -> Field:
    node, detail = member
    if node == Nodetype.BASE:
        return Scalar(detail[0], detail[1])
    if node == Nodetype.NAME:
        return Nested(detail, load)
    inner, count = detail
    item = _field(inner)
    assert not isinstance(item, Array)
    return Array(item, size=count) if node == Nodetype.ARRAY else Array(item, limit=count)


def module(name: str) -> SimpleNamespace:
    """The classes of `std_msgs.msg`, `std_srvs.srv` or `my_package.action` as attributes, like rclpy's import paths."""
    package, _, kind = name.partition(".")
    names = type_names() if kind == "msg" else _compound_names()
    prefix = f"{package}/{kind}/"
    found = {n.removeprefix(prefix): load(n) for n in names if n.startswith(prefix)}
    if not found:
        modules = {n.rsplit("/", 1)[0].replace("/", ".") for n in all_names()}
        raise UserError(f"no ROS types in {name!r}{nearest(name, modules)}")
    return SimpleNamespace(**found)
