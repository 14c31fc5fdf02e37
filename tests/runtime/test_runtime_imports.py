"""The robot's installation has no torch: importing the runtime must not ask for it."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
import mcsd_agent.runtime
heavy = {"torch", "stable_baselines3", "gymnasium", "onnxruntime", "onnx", "matplotlib", "safetensors", "google"}
print(sorted(heavy & set(sys.modules)))
"""


def test_runtime_imports_numpy_alone() -> None:
    result = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_numpy_engine_runs_without_onnxruntime() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'onnxruntime', 'onnx', 'gymnasium', 'safetensors']))\n"
        "from mcsd_agent.runtime.onnx_numpy import NumpyEngine\n"
        "from mcsd_agent.runtime import Controller, Stream, EnvRobot, Telemetry, read_package\n"
        "print('imported')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "imported"
