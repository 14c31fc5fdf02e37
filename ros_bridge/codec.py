"""Messages to and from rosbridge JSON: `uint8[]` is base64, NaN and infinity are refused, `null` reads as NaN.

Messages from CBOR frames are read here as well: `uint8[]` is bytes, other arrays of numbers are NumPy arrays, and
NaN and infinity are themselves. Both directions name the field at fault. Decoding is lenient where rosbridge servers
differ: a missing field keeps its default, an unknown field is ignored, and `uint8[]` may be base64 or a list.
"""

from __future__ import annotations

import base64
import binascii
import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ros_bridge.message_fields import Array, Field, MessageError, Nested, Scalar
from ros_bridge.messages import Message, load


def to_json(message: Message) -> dict[str, Any]:
    """Plain JSON values; raises `MessageError` for NaN or infinity, naming the field."""
    return {name: _encode(field, getattr(message, name), name) for name, field in message.FIELDS.items()}


@functools.cache
def is_bulky(ros_type: str) -> bool:
    """Whether messages of this type can hold many numbers or bytes, which CBOR carries in less room and time."""
    for field in load(ros_type).FIELDS.values():
        item = field.item if isinstance(field, Array) else field
        if isinstance(field, Array) and field.dtype is not None and not field.size:
            return True
        if isinstance(item, Nested) and is_bulky(item.ros_type):
            return True
    return False


def from_json(cls: Any, data: Any) -> Any:
    """A message of class `cls`, from a JSON or a CBOR frame; raises `MessageError` for what does not fit."""
    if not isinstance(data, Mapping):
        raise MessageError(f"{cls.ROS_TYPE} must be a JSON object, not {data!r:.80}")
    message = cls()
    for name, field in cls.FIELDS.items():
        if name in data:
            try:
                setattr(message, name, _decode(field, data[name]))
            except MessageError:  # names its field already
                raise
            except (TypeError, ValueError, OverflowError, binascii.Error) as error:
                raise MessageError(f"{cls.ROS_TYPE}.{name}: {error}") from None
    return message


def _encode(field: Field, value: Any, where: str) -> Any:
    if isinstance(field, Nested):
        return {name: _encode(f, getattr(value, name), f"{where}.{name}") for name, f in value.FIELDS.items()}
    if isinstance(field, Array):
        if field.dtype is None:
            return [_encode(field.item, v, f"{where}[{i}]") for i, v in enumerate(value)]
        value = np.asarray(value)  # NumPy's own is quicker than the one that people see
        if field.dtype == "uint8":
            return base64.b64encode(value.tobytes()).decode("ascii")
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise MessageError(f"{where}[{int(np.argmin(np.isfinite(value)))}] is not finite; rosbridge refuses it")
        return value.tolist()
    if field.kind == "byte":
        return value[0]
    if isinstance(value, float):
        if not math.isfinite(value):
            raise MessageError(f"{where} is {value}; rosbridge JSON has no word for it")
        return float(value)
    return value


def _decode(field: Field, value: Any) -> Any:
    if isinstance(field, Nested):
        return from_json(load(field.ros_type), value)
    if isinstance(field, Array):
        return _decode_array(field, value)
    if field.kind in ("float32", "float64"):
        # Servers write NaN and infinity as null; whole numbers lose their point.
        return math.nan if value is None else float(value) if not isinstance(value, (str, bool)) else value
    if field.kind == "byte":
        return bytes([value]) if isinstance(value, int) else value
    if isinstance(value, float) and value.is_integer() and not isinstance(field.default(), (str, bool)):
        return int(value)
    return value


def _decode_array(field: Array, value: Any) -> Any:
    if field.dtype == "uint8" and isinstance(value, (str, bytes)):
        data = base64.b64decode(value, validate=True) if isinstance(value, str) else value
        return np.frombuffer(data, np.uint8).copy()  # so that a callback may write to it, as natively
    if isinstance(value, np.ndarray):
        # From CBOR; `byte[]` comes as int8.
        return value if field.dtype is not None else [bytes([v]) for v in value.astype(np.uint8).tolist()]
    if not isinstance(value, list):
        raise ValueError(f"must be a JSON list, not {value!r:.80}")
    if field.dtype is None:
        return [_decode(field.item, v) for v in value]
    if field.dtype.startswith("float"):
        assert isinstance(field.item, Scalar)
        return np.array([math.nan if v is None else v for v in value], field.dtype)
    return value
