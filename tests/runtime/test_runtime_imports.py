"""What importing the runtime loads: the robot has no torch, starts quickly, and may have no more than NumPy."""

from __future__ import annotations

import subprocess
import sys

import pytest

import mcsd_agent.runtime

#: Neither installed on a robot nor needed before something is asked of them.
HEAVY = {
    *("torch", "stable_baselines3", "gymnasium", "onnxruntime", "onnx", "matplotlib", "safetensors", "google"),
    *("cryptography", "mcap", "rosbags", "roslibpy", "prometheus_client", "cv2", "yaml", "scipy", "pandas"),
    *("asyncio", "ssl", "http", "socket", "zipfile", "multiprocessing", "concurrent", "sqlite3", "unittest"),
}


def loaded_by(code: str) -> set[str]:
    code = f"import sys\n{code}\nprint('\\n'.join(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_the_package_alone_loads_not_even_numpy() -> None:
    loaded = loaded_by("import mcsd_agent.runtime")
    assert "mcsd_agent.runtime" in loaded
    assert not loaded & (HEAVY | {"numpy"})
    assert not [m for m in loaded if m.startswith("mcsd_agent.runtime.")]


def test_a_stream_loads_numpy_and_no_controller() -> None:
    loaded = loaded_by("from mcsd_agent.runtime import Stream")
    assert "numpy" in loaded
    # NumPy's own imports are NumPy's.
    assert not (loaded - loaded_by("import numpy")) & HEAVY
    assert not {"mcsd_agent.runtime.controller", "mcsd_agent.runtime.telemetry"} & loaded


def test_everything_loads_numpy_alone() -> None:
    loaded = loaded_by("from mcsd_agent.runtime import *")
    assert "mcsd_agent.runtime.controller" in loaded
    assert not (loaded - loaded_by("import numpy")) & HEAVY


@pytest.mark.parametrize("name", mcsd_agent.runtime.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(mcsd_agent.runtime, name).__name__ == name


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Strem'"):
        mcsd_agent.runtime.Strem  # noqa: B018


def test_numpy_engine_runs_without_onnxruntime() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'onnxruntime', 'onnx', 'gymnasium', 'safetensors']))\n"
        "from mcsd_agent.runtime.onnx_numpy import NumpyEngine\n"
        "from mcsd_agent.runtime import Controller, Stream, EnvRobot, Telemetry, read_package\n"
        "print('imported')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "imported"
