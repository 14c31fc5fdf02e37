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


#: Ways to run the same artifact; all give the same results.
ENGINES: dict[str, Callable[[Package, int], Engine]] = {"onnx": _onnx, "numpy": _numpy, "torch": _torch}


class Stream:
    """A loaded policy. It holds no memory of its own: state in, state out.

    One stream serves one thread.
    """

    def __init__(self, package: Package, engine: str = "onnx", batch: int | None = None) -> None:
        if engine not in ENGINES:
            raise UserError(f"unknown engine {engine!r}{nearest(engine, ENGINES)}")
        self.spec: ArtifactSpec = package.spec
        self.engine, self.batch = engine, batch
        sized(package.model, 1 if batch is None else batch, package.where)  # refuses what is no number of robots
        leading = () if batch is None else (batch,)
        self._state_shape = (*leading, *self.spec.state_shape)
        self._action_shape, self._success_shape = (*leading, *self.spec.action.shape), leading
        self._reader = ObservationReader(package.spec)
        self._engine = ENGINES[engine](package, 1 if batch is None else batch)
        names = [port.name for port in package.model.outputs]
        self._action, self._next_state = names.index(ACTION), names.index(NEXT_STATE)
        self._success = names.index(SUCCESS) if self.predicts_success else -1

    @classmethod
    def load(
        cls, path: str | Path, engine: Literal["onnx", "numpy", "torch"] | str = "onnx", batch: int | None = None
    ) -> Stream:
        """The policy in an artifact file; `UserError` says why not, in one line.

        `engine="onnx"` uses onnxruntime and is the fastest one; `engine="numpy"` needs NumPy alone;
        `engine="torch"` is the reference. With `batch=N` one stream drives N robots: observations come as a
        sequence of N, actions and states have N in front.
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
