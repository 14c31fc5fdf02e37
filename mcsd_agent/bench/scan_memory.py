"""Peak memory of one forward and backward pass.

On CUDA torch counts it. On a CPU a fresh process runs the pass and reads its own peak of resident memory from the
kernel (Linux): `python -m mcsd_agent.bench.scan_memory JSON` prints the bytes. A short sequence goes first, so that
what libraries and compilers keep for themselves is not counted; the C library is told to give freed blocks back
at once, or it would count how it fragments.
"""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from mcsd_agent.bench.scan_models import Pass, Task
from mcsd_agent.errors import UserError

#: Blocks from 64 KiB on come from the system and return to it (glibc; without this the threshold rises to 32 MiB).
_GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536"}
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_bytes(task: Task) -> int | None:
    """Parameters, inputs, activations and gradients of one pass; None where the system does not tell."""
    gc.collect()
    if task.device == "cuda":
        _open_libraries(getattr(torch, task.dtype))
        before = torch.cuda.memory_allocated()
        run = Pass(task)
        run()  # kernels are compiled, workspaces exist
        torch.cuda.reset_peak_memory_stats()
        run()
        return torch.cuda.max_memory_allocated() - before
    if not _RESET.exists():
        return None
    command = [sys.executable, "-m", "mcsd_agent.bench.scan_memory", json.dumps(dataclasses.asdict(task))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | _GIVE_BACK)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"{task}: the process that measures memory failed ({reason}); free some memory")
    return int(done.stdout)


def _open_libraries(dtype: torch.dtype) -> None:
    """The first products of a process allocate what cuBLAS keeps for each of torch's threads."""
    x = torch.ones(64, 64, device="cuda", dtype=dtype, requires_grad=True)
    (x @ x).sum().backward()


def _resident(key: str) -> int:
    """VmRSS (now) or VmHWM (the peak), in bytes."""
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024


def _grow(task: Task) -> int:
    """Bytes by which this process grows over the pass, and the model's parameters."""
    torch.set_num_threads(1)
    Pass(dataclasses.replace(task, length=min(task.length, 32), batch=1))()
    gc.collect()
    release = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if release is not None:
        release(0)  # what the allocator keeps would serve the pass without showing as growth
    before = _resident("VmRSS")
    _RESET.write_text("5")  # the peak begins anew
    run = Pass(task)
    run()
    return _resident("VmHWM") - before


if __name__ == "__main__":
    print(_grow(Task(**json.loads(sys.argv[1]))))
