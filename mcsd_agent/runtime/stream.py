"""A policy as a stream: one step a tick, constant memory, constant time.

from mcsd_agent.runtime import Stream

stream = Stream.load("nav.mcsd")
state = stream.initial_state()
for observation in sensor:
    action, state = stream.step(observation, state)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from mcsd_agent.errors import UserError, nearest
from mcsd_agent.runtime.artifact_spec import ACTION, NEXT_STATE, STATE, SUCCESS, ArtifactSpec
from mcsd_agent.runtime.native_program import is_compiled
from mcsd_agent.runtime.observations import Observation, ObservationReader
from mcsd_agent.runtime.onnx_batch import sized
from mcsd_agent.runtime.onnx_numpy import NumpyEngine
from mcsd_agent.runtime.package import Package, read_package
from mcsd_agent.spaces import TextSpec


class Engine(Protocol):
    """Runs the step: input arrays by name to the output arrays in the model's order."""

    def run(self, inputs: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
        """The arrays returned belong to the caller."""
        ...


def _onnx(package: Package, batch: int) -> Engine:
    from mcsd_agent.runtime.onnx_session import OnnxEngine

    return OnnxEngine(package.step, package.model, package.where, batch, _texts(package))


def _numpy(package: Package, batch: int) -> Engine:
    return NumpyEngine(package.model, package.where, steady=_texts(package), batch=batch)


def _native(package: Package, batch: int) -> Engine:
    from mcsd_agent.runtime.onnx_native import NativeEngine

    return NativeEngine(package.model, package.where, steady=_texts(package), batch=batch)


def _texts(package: Package) -> list[str]:
    """Instructions, which seldom change."""
    return [name for name, spec in package.spec.observation.items() if isinstance(spec, TextSpec)]


def _torch(package: Package, batch: int) -> Engine:
    try:
        from mcsd_agent.torch_engine import TorchEngine
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise UserError(
            "engine 'torch' needs torch; pip install 'mcsd-agent[train]' or use engine='onnx' or 'numpy'"
        ) from None
    return TorchEngine(package)


#: Ways to run the same artifact; all give the same results. `native` is not always there, see `engines_here`.
ENGINES: dict[str, Callable[[Package, int], Engine]] = {
    "native": _native,
    "onnx": _onnx,
    "numpy": _numpy,
    "torch": _torch,
}

#: The fastest of them that is there.
AUTO = "auto"
#: The most robots for which `native`, a row at a time, is as fast as products of matrices are.
_FEW = 4


def engines_here() -> list[str]:
    """Names of the engines, without `native` where this installation was made without a C compiler."""
    return [name for name in ENGINES if name != "native" or is_compiled()]


def _fastest(package: Package, batch: int) -> tuple[str, Engine]:
    """`native` where it computes all of a step; else onnxruntime where it is installed, else what needs nothing."""
    native = None
    if is_compiled():
        from mcsd_agent.runtime.onnx_native import NativeEngine

        native = NativeEngine(package.model, package.where, steady=_texts(package), batch=batch)
        if native.is_whole and batch <= _FEW:
            return "native", native
    try:
        import onnxruntime  # noqa: F401
    except ModuleNotFoundError:
        return ("numpy", _numpy(package, batch)) if native is None else ("native", native)
    return "onnx", _onnx(package, batch)


class Stream:
    """A loaded policy. It holds no memory of its own: state in, state out.

    One stream serves one thread. `engine` is the name of the one that runs it.
    """

    def __init__(self, package: Package, engine: str = AUTO, batch: int | None = None) -> None:
        if engine != AUTO and engine not in ENGINES:
            raise UserError(f"unknown engine {engine!r}{nearest(engine, [AUTO, *ENGINES])}")
        self.spec: ArtifactSpec = package.spec
        self.batch = batch
        sized(package.model, 1 if batch is None else batch, package.where)  # refuses what is no number of robots
        leading = () if batch is None else (batch,)
        self._state_shape = (*leading, *self.spec.state_shape)
        self._action_shape, self._success_shape = (*leading, *self.spec.action.shape), leading
        self._reader = ObservationReader(package.spec)
        robots = 1 if batch is None else batch
        self.engine, self._engine = (
            _fastest(package, robots) if engine == AUTO else (engine, ENGINES[engine](package, robots))
        )
        names = [port.name for port in package.model.outputs]
        self._action, self._next_state = names.index(ACTION), names.index(NEXT_STATE)
        self._success = names.index(SUCCESS) if self.predicts_success else -1

    @classmethod
    def load(
        cls,
        path: str | Path,
        engine: Literal["auto", "native", "onnx", "numpy", "torch"] | str = AUTO,
        batch: int | None = None,
    ) -> Stream:
        """The policy in an artifact file; `UserError` says why not, in one line.

        `engine="native"` is compiled code that came with this package and is the fastest for policies without pictures,
        `engine="onnx"` uses onnxruntime, `engine="numpy"` needs NumPy alone, `engine="torch"` is the reference;
        `engine="auto"` takes the fastest that is there. With `batch=N` one stream drives N robots: observations come
        as a sequence of N, actions and states have N in front.
        """
        return cls(read_package(path), engine, batch)

    @property
    def predicts_success(self) -> bool:
        """Whether the policy also says how likely its instruction has been carried out."""
        return self.spec.predicts_success

    def initial_state(self) -> np.ndarray:
        """Zeros, float32 `(layers, size)`: the memory at an episode start.

        For N robots `(N, layers, size)`; `state[i] = 0` starts a new episode for robot i alone.
        """
        return np.zeros(self._state_shape, np.float32)

    def read(self, observation: Observation) -> dict[str, np.ndarray]:
        """The step's inputs from an observation; `ObservationError` names the entry at fault."""
        if self.batch is None:
            return self._reader.read(observation)
        if isinstance(observation, (str, Mapping)) or not hasattr(observation, "__len__"):
            raise UserError(f"observation is {type(observation).__name__}; it must be a sequence of {self.batch}")
        if len(observation) != self.batch:
            raise UserError(f"{len(observation)} observations; this stream was loaded with batch={self.batch}")
        rows = [self._reader.read(one) for one in observation]
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}

    def advance(self, inputs: dict[str, np.ndarray], state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`step` for inputs that `read` made."""
        action, _, state = self.advance_and_judge(inputs, state)
        return action, state

    def advance_and_judge(
        self, inputs: dict[str, np.ndarray], state: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        """`step_with_success` for inputs that `read` made; None in the middle for a policy that does not predict it."""
        if state.shape != self._state_shape or state.dtype != np.float32:
            raise UserError(
                f"state is {state.dtype} {state.shape}; it must be float32 {self._state_shape}: "
                "start from initial_state()"
            )
        outputs = self._engine.run({**inputs, STATE: state[None] if self.batch is None else state})
        action = outputs[self._action].reshape(self._action_shape)  # an array even where the shape is ()
        success = outputs[self._success].reshape(self._success_shape) if self.predicts_success else None
        return action, success, outputs[self._next_state].reshape(self._state_shape)

    def step(self, observation: Observation, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One tick.

        `observation` is a dict of arrays by name (text entries take a string), or the array itself
        when the policy has a single one; for N robots a sequence of N of these. Returns the action in
        physical units, shaped as `spec.action` says, and the next state; neither is touched again by the stream.
        """
        return self.advance(self.read(observation), state)

    def step_with_success(
        self, observation: Observation, state: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`step`, and between action and state how likely the instruction has been carried out.

        That is float32 in [0, 1] of shape `()`, for N robots `(N,)`, and means this observation, before the action.
        Raises `UserError` for a policy that does not predict it.
        """
        action, success, state = self.advance_and_judge(self.read(observation), state)
        if success is None:
            raise UserError("this policy does not predict success; train it with policy.predict_success=true")
        return action, success, state
