"""Where the Triton kernels are tested: on a GPU directly, elsewhere in a process of their own with the interpreter.

The interpreter replaces `triton.jit` and has to be chosen before Triton is imported, hence the process.
"""

from __future__ import annotations

import importlib.util
import os

import torch

_DIRECT = [
    "test_cuda_sections.py",
    "test_cuda_recurrence.py",
    "test_cuda_rows.py",
    "test_cuda_mlp.py",
    "test_cuda_backbone.py",
]
_IN_A_PROCESS = ["test_cuda_interpreter.py", "test_kernels_benchmark.py"]

if importlib.util.find_spec("triton") is None:
    collect_ignore = _DIRECT + _IN_A_PROCESS
elif torch.cuda.is_available() or os.environ.get("TRITON_INTERPRET") == "1":
    collect_ignore = _IN_A_PROCESS
else:
    collect_ignore = _DIRECT
