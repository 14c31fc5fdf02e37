from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("kernels", ["sections", "recurrence", "rows", "mlp", "backbone"])
def test_kernels_pass_their_tests_in_the_interpreter(kernels):
    file = Path(__file__).with_name(f"test_cuda_{kernels}.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)]
    done = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
