"""The state of an object as plain values: what it holds in numbers, arrays and random generators.

What an object's attributes hold is read by kind: numbers, text, arrays, containers of these, random generators,
the state of a MuJoCo simulation, and other objects' attributes in turn. What is of no such kind (renderers,
functions, windows, specifications) is left as it is. The result holds only what `torch.load(weights_only=True)` reads.
"""

from __future__ import annotations

import random
import sys
import types
from collections import OrderedDict, deque
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec
from stable_baselines3.common.vec_env import VecEnv

_KIND = "~"
_BIT_GENERATORS = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")
#: Arrays up to this size are stored as lists: a tensor costs a file record of its own.
_FEW = 64
#: Attributes that describe an object, or hold times and logs, and never decide what it does next.
_LEFT = {"spec", "metadata", "_metadata", "_cached_spec", "render_mode", "t_start", "episode_start_time"}
_LEFT |= {"episode_returns", "episode_lengths", "episode_times"}
_NEVER = (gymnasium.Env, VecEnv, EnvSpec, type, types.ModuleType, types.FunctionType, types.MethodType)


class NotPlain(Exception):
    """A value of a kind that cannot be stored."""


def snapshot(owner: Any) -> dict[str, Any]:
    """What the attributes of `owner` hold, by name, where it can be stored."""
    return _attributes(owner, {id(owner)})


def restore(owner: Any, state: dict[str, Any]) -> None:
    """Set the attributes of `owner` to what `snapshot` saw in an object of the same class; `NotPlain` if unlike."""
    views = _views(owner)
    for name, stored in state.items():
        current = _held(owner).get(name)
        if id(current) in views and stored["shape"] == list(current.shape):  # type: ignore[union-attr]
            current[...] = decode(stored)  # type: ignore[index]
        elif not _fill(current, stored):
            # not setattr: a property or a frozen class must not come between
            object.__setattr__(owner, name, decode(stored, current))


def _views(owner: Any) -> set[int]:
    """Arrays of `owner` that show each other's memory, or that of a simulation: a new array would tear them apart."""
    arrays = {id(v): v for v in _held(owner).values() if isinstance(v, np.ndarray)}
    found = set()
    for array in arrays.values():
        if array.base is not None and (id(array.base) in arrays or not isinstance(array.base, np.ndarray)):
            found |= {id(array), id(array.base)} & arrays.keys()
    return found


def _held(owner: Any) -> dict[str, Any]:
    return getattr(owner, "__dict__", {})


def _attributes(owner: Any, seen: set[int]) -> dict[str, Any]:
    found = {}
    for name, value in _held(owner).items():
        if name in _LEFT:
            continue
        try:
            found[name] = _encode(value, seen)
        except NotPlain:
            continue
    return found


def encode(value: Any) -> Any:
    """A value as plain data; `NotPlain` for kinds that cannot be stored."""
    return _encode(value, set())


def _encode(value: Any, seen: set[int]) -> Any:
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, (np.ndarray, np.generic)):
        return _encode_array(value)
    if isinstance(value, torch.Tensor):
        return {_KIND: "tensor", "data": value.detach().clone()}
    if type(value) in (list, tuple, set, frozenset):
        items = sorted(value) if isinstance(value, (set, frozenset)) else value
        return {_KIND: type(value).__name__, "items": [_encode(v, seen) for v in items]}
    if type(value) is deque:
        return {_KIND: "deque", "items": [_encode(v, seen) for v in value], "maxlen": value.maxlen}
    if type(value) in (dict, OrderedDict):
        return {_KIND: "dict", "items": [[_encode(k, seen), _encode(v, seen)] for k, v in value.items()]}
    if isinstance(value, np.random.Generator):
        return {_KIND: "generator", "state": encode(value.bit_generator.state)}
    if isinstance(value, np.random.RandomState):
        return {_KIND: "random_state", "state": encode(value.get_state(legacy=False))}
    if isinstance(value, random.Random):
        return {_KIND: "python_random", "state": encode(value.getstate())}
    if id(value) in seen:
        raise NotPlain  # what refers back to its owner is stored with the owner
    if isinstance(value, gymnasium.Space):
        return {_KIND: "space", "generators": [_generator_state(s) for s in _spaces_in(value)]}
    if _is_simulation(value):
        return _encode_simulation(value)
    if isinstance(value, (*_NEVER, tuple)) or not _held(value) or _is_frozen(value):
        raise NotPlain
    seen.add(id(value))
    return {_KIND: "object", "class": type(value).__name__, "attributes": _attributes(value, seen)}


def _is_frozen(value: Any) -> bool:
    parameters = getattr(type(value), "__dataclass_params__", None)
    return bool(parameters and parameters.frozen)


def _encode_array(value: np.ndarray | np.generic) -> dict[str, Any]:
    array = np.asarray(value)
    if array.dtype.kind not in "biuf" or array.dtype == np.longdouble:
        raise NotPlain
    few = array.size <= _FEW
    return {
        _KIND: "array" if isinstance(value, np.ndarray) else "scalar",
        "dtype": array.dtype.str,
        "shape": list(array.shape),
        "data": array.ravel().tolist() if few else torch.from_numpy(array.ravel().view(np.uint8).copy()),
    }


def _fill(current: Any, stored: Any) -> bool:
    """Restore in place what has to stay the same object; False where a new value will do."""
    kind = stored.get(_KIND) if isinstance(stored, dict) else None
    if kind == "object":
        if type(current).__name__ != stored["class"]:
            raise NotPlain(f"a {stored['class']} was stored where there is a {type(current).__name__}")
        restore(current, stored["attributes"])
    elif kind == "generator" and isinstance(current, np.random.Generator):
        state = decode(stored["state"])
        if state["bit_generator"] != current.bit_generator.state["bit_generator"]:
            return False
        current.bit_generator.state = state
    elif kind == "random_state" and isinstance(current, np.random.RandomState):
        current.set_state(decode(stored["state"]))
    elif kind == "python_random" and isinstance(current, random.Random):
        current.setstate(decode(stored["state"]))
    elif kind == "space" and isinstance(current, gymnasium.Space):
        for space, drawn in zip(_spaces_in(current), stored["generators"], strict=True):
            space._np_random = None if drawn is None else decode(drawn)  # type: ignore[assignment]
    elif kind == "simulation" and _is_simulation(current):
        _restore_simulation(current, stored)
    else:
        return False
    return True


def decode(stored: Any, current: Any = None) -> Any:
    """The value that `encode` was given; elements that must stay the same objects are taken from `current`."""
    if not isinstance(stored, dict):
        return stored
    kind = stored[_KIND]
    if kind == "scalar":
        return np.dtype(stored["dtype"]).type(stored["data"][0])
    if kind == "array":
        return _decode_array(stored)
    if kind == "tensor":
        return stored["data"].clone()
    if kind == "dict":
        held = current if isinstance(current, dict) else {}
        result = {}
        for k, v in stored["items"]:
            key = decode(k)
            result[key] = held[key] if key in held and _fill(held[key], v) else decode(v, held.get(key))
        return result
    if kind in ("list", "tuple", "set", "frozenset", "deque"):
        return _decode_items(stored, current)
    if kind == "generator":
        return _decode_generator(decode(stored["state"]))
    raise NotPlain(f"there is nothing that a stored {kind} could be put into")


def _decode_array(stored: dict[str, Any]) -> np.ndarray:
    data, dtype = stored["data"], np.dtype(stored["dtype"])
    flat = np.array(data, dtype) if isinstance(data, list) else data.numpy().view(dtype).copy()
    return flat.reshape(stored["shape"])


def _decode_generator(state: dict[str, Any]) -> np.random.Generator:
    name = state["bit_generator"]
    if name not in _BIT_GENERATORS:
        raise NotPlain(f"unknown bit generator {name!r}")
    generator = np.random.Generator(getattr(np.random, name)())
    generator.bit_generator.state = state
    return generator


def _decode_items(stored: dict[str, Any], current: Any) -> Any:
    held = list(current) if isinstance(current, (list, tuple, deque)) else []
    items = []
    for i, v in enumerate(stored["items"]):
        before = held[i] if i < len(held) else None
        items.append(before if before is not None and _fill(before, v) else decode(v, before))
    if stored[_KIND] == "deque":
        return deque(items, stored["maxlen"])
    return {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}[stored[_KIND]](items)


def _spaces_in(space: gymnasium.Space) -> list[gymnasium.Space]:
    inner = getattr(space, "spaces", ())
    entries = inner.values() if isinstance(inner, dict) else inner
    return [space, *(s for entry in entries for s in _spaces_in(entry))]


def _generator_state(space: gymnasium.Space) -> Any:
    generator = space._np_random
    return None if generator is None else encode(generator)


def _is_simulation(value: Any) -> bool:
    mujoco = sys.modules.get("mujoco")
    return mujoco is not None and isinstance(value, mujoco.MjData)


def _encode_simulation(data: Any) -> dict[str, Any]:
    """What MuJoCo integrates, and what it derived from the state before: some rewards read that first."""
    import mujoco

    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    integrated = np.empty(mujoco.mj_stateSize(data.model, kind))
    mujoco.mj_getState(data.model, data, integrated, kind)
    derived = {k: encode(v) for k, v in _derived(data).items()}
    return {_KIND: "simulation", "integrated": encode(integrated), "derived": derived}


def _derived(data: Any) -> dict[str, np.ndarray]:
    arrays = {k: getattr(data, k, None) for k in dir(data) if not k.startswith(("_", "efc_", "iefc_"))}
    return {k: v for k, v in arrays.items() if isinstance(v, np.ndarray) and v.dtype == np.float64 and v.size}


def _restore_simulation(data: Any, stored: dict[str, Any]) -> None:
    import mujoco

    kind, integrated = mujoco.mjtState.mjSTATE_INTEGRATION, decode(stored["integrated"])
    if integrated.size != mujoco.mj_stateSize(data.model, kind):
        raise NotPlain("the simulation is of another model")
    mujoco.mj_setState(data.model, data, integrated, kind)
    mujoco.mj_forward(data.model, data)  # contacts and constraints, whose number is not fixed
    mujoco.mj_setState(data.model, data, integrated, kind)
    for name, array in _derived(data).items():
        value = stored["derived"].get(name)
        if value is not None and value["shape"] == list(array.shape):
            array[...] = decode(value)
