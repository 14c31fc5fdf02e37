"""Millions of ticks: is the last as fast as the first, does memory grow, and is the result still torch's?

A second process walks the same ticks with the policy in torch and a state of its own, without ever looking at the
stream's; at checkpoints the two are compared. It takes blocks of ticks as sequences, which is several times as fast as
step by step, so the comparison is one of stepping with scanning too. At checkpoints one more torch step starts from the
stream's state, by torch's plain operations.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from mcsd_agent.bench.stream_inputs import observations
from mcsd_agent.errors import UserError
from mcsd_agent.runtime.realtime import RealTimeConfig, real_time
from mcsd_agent.runtime.stream import Stream

#: Ticks in the first and the last stretch that are timed for the result, and ticks before them.
_WINDOW, _WARM_UP = 100_000, 10_000
#: Ticks that torch takes as one sequence.
_BLOCK = 1000

Report = Callable[[str, float, str], None]


def endure(artifact: Path, engine: str, ticks: int, check_every: int, seed: int, report: Report) -> dict[str, Any]:
    """Steps `ticks` times; every `check_every` ticks (0: never) the torch process is asked how far it is away.

    Times are of `Stream.step` with one observation. `rss_growth_bytes` is the process's resident memory at the end,
    less what it was after the first stretch. `ratio_to_fresh` compares the last ticks with ticks of an empty memory
    that take turns with them, so that a machine that is busy at the end is busy for both.
    """
    if ticks < 1000:
        raise UserError(f"ticks={ticks} must be at least 1000")
    if check_every < 0:
        raise UserError(f"check_every={check_every} must be 0 (never) or more")
    stream = Stream.load(artifact, engine)
    window = min(_WINDOW, ticks // 4)
    warm_up = min(_WARM_UP, ticks // 10)
    first, last, fresh = (np.zeros(window, np.int64) for _ in range(3))
    clock = time.perf_counter_ns
    state, empty = stream.initial_state(), stream.initial_state()
    source = observations(stream.spec, seed)
    resident = 0
    worst: tuple[float, ...] = (0.0, 0.0, 0.0)
    checks = 0
    with ExitStack() as stack:
        torch_says = _start_torch(stack, artifact, ticks, check_every, seed) if check_every else None
        session = stack.enter_context(real_time(RealTimeConfig()))
        began = time.monotonic()
        for tick in range(ticks):
            observation = next(source)
            checked = check_every > 0 and (tick + 1) % check_every == 0
            before = state.copy() if checked else state
            start = clock()
            action, state = stream.step(observation, state)
            took = clock() - start
            if 0 <= tick - warm_up < window:
                first[tick - warm_up] = took
                if tick - warm_up == window - 1:
                    resident = _resident_bytes()
            if tick >= ticks - window:
                last[tick - ticks + window] = took
                start = clock()
                stream.step(observation, empty)
                fresh[tick - ticks + window] = clock() - start
            if checked:
                if not (np.isfinite(state).all() and np.isfinite(action).all()):
                    raise UserError(f"the stream computed NaN or infinity by tick {tick + 1}; the policy is broken")
                if torch_says is not None:
                    deviations = _ask(torch_says, before, action, state)
                    worst = tuple(map(max, worst, deviations))
                checks += 1
                session.between_ticks(1.0)
                _progress(report, tick + 1, ticks, began, max(worst))
        growth = _resident_bytes() - resident
    p50_first, p50_last, p50_fresh = (float(np.median(times)) / 1000 for times in (first, last, fresh))
    return {
        "p50_first_us": p50_first,
        "p50_last_us": p50_last,
        "ratio": p50_last / p50_first,
        "rss_growth_bytes": growth,
        "state_bytes": stream.spec.state_bytes,
        "ticks": ticks,
        "ratio_to_fresh": p50_last / p50_fresh,
        "state_finite": bool(np.isfinite(state).all()),
        "checks": checks,
        **{f"max_{name}_deviation": worst[i] if checks else None for i, name in enumerate(("action", "state", "step"))},
        "engine": stream.engine,
        "seconds": time.monotonic() - began,
    }


def _progress(report: Report, done: int, ticks: int, began: float, deviation: float) -> None:
    rate = done / (time.monotonic() - began)
    report("stream", done / ticks, f"{done} ticks, {rate:.0f} per s, at most {deviation:.1e} from torch")


def _resident_bytes() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)


# --- the other process -----------------------------------------------------------------------------------


def _start_torch(stack: ExitStack, artifact: Path, ticks: int, check_every: int, seed: int) -> Connection:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_walk_in_torch, args=(theirs, artifact, ticks, check_every, seed), daemon=True)
    process.start()
    theirs.close()
    stack.callback(process.join, 10)
    stack.callback(ours.close)  # ends it, should it still wait for a checkpoint
    return ours


def _ask(torch_says: Connection, before: np.ndarray, action: np.ndarray, state: np.ndarray) -> tuple[float, ...]:
    """How far action and state are away; waits until the other process has come so far."""
    try:
        torch_says.send((before, action, state))
        return torch_says.recv()
    except (EOFError, OSError):
        raise UserError("the process with torch has ended, see above; --check-every 0 goes without it") from None


def _walk_in_torch(asked: Connection, artifact: Path, ticks: int, check_every: int, seed: int) -> None:
    import torch

    from mcsd_agent.artifact import load_policy
    from mcsd_agent.runtime.package import read_package
    from mcsd_agent.runtime.stream import Stream

    torch.set_num_threads(1)
    policy = load_policy(artifact).requires_grad_(False)
    reader = Stream(read_package(artifact), "numpy")
    state = policy.initial_state()
    block: list[dict[str, np.ndarray]] = []
    try:
        for tick, observation in zip(range(ticks), observations(reader.spec, seed), strict=False):
            block.append(reader.read(observation))
            is_checked = (tick + 1) % check_every == 0
            if not is_checked and len(block) < _BLOCK:
                continue
            inputs = {name: torch.from_numpy(np.concatenate([one[name] for one in block])) for name in block[0]}
            with torch.no_grad():
                features, state = policy.scan({name: array[None] for name, array in inputs.items()}, state)
            block.clear()
            if is_checked:
                with torch.no_grad():
                    action = policy.head.mode(policy.action_net(features[:, -1]))
                before, their_action, their_state = asked.recv()
                # With gradients enabled, though none are wanted, torch's own operations run.
                last = {name: array[-1:] for name, array in inputs.items()}
                step_action, step_state = policy.act(last, torch.from_numpy(before)[None])
                own = _deviation(their_action, action), _state_deviation(their_state, state)
                step = _deviation(their_action, step_action), _state_deviation(their_state, step_state)
                asked.send((*own, max(step)))
    except EOFError:  # the other side has ended early
        return


def _deviation(action: np.ndarray, torch_action: Any) -> float:
    """Relative to the larger of 1 and torch's value; torch's has a batch of one in front."""
    right = torch_action[0].numpy()
    return float(np.max(np.abs(action - right) / np.maximum(1.0, np.abs(right))))


def _state_deviation(state: np.ndarray, torch_state: Any) -> float:
    """Relative to the larger of 1 and the largest value of the layer."""
    right = torch_state[0].numpy()
    return float(np.max(np.abs(state - right) / np.maximum(1.0, np.abs(right).max(1, keepdims=True))))
