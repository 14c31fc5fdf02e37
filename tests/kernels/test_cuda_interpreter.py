from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("kernels", "which"),
    [
        *((kernels, "not slow") for kernels in ("sections", "recurrence", "rows", "mlp", "backbone")),
        pytest.param("backbone", "slow", marks=pytest.mark.slow),
    ],
)
def test_kernels_pass_their_tests_in_the_interpreter(kernels, which):
    file = Path(__file__).with_name(f"test_cuda_{kernels}.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", which, str(file)]
    done = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
