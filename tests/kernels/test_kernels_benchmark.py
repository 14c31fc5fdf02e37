"""`benchmarks/kernels.py` checks numbers before it times anything, and says so when they are wrong."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "kernels.py"


@pytest.fixture(scope="module")
def kernels():
    spec = importlib.util.spec_from_file_location("kernels_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_it_compares_every_preset_and_dtype(tmp_path):
    out = tmp_path / "kernels.json"
    options = ["--device", "cpu", "--check-width", "16", "--check-length", "3", "--out", str(out)]
    command = [sys.executable, str(SCRIPT), *options]
    done = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(out.read_text())["check"]
    assert {(row["preset"], row["dtype"]) for row in rows} == {
        (preset, dtype) for preset in ("extended", "paper") for dtype in ("bfloat16", "float16", "float32")
    }
    assert {row["starts_every"] is None for row in rows} == {True, False}
    assert not any(row["wrong"] for row in rows)


@pytest.mark.parametrize("wrong", [0.01, float("nan"), None])
def test_it_fails_where_a_number_is_wrong_or_missing(wrong, kernels, monkeypatch, capsys):
    def found(task):
        if task.dtype == "float16" and wrong is None:
            raise RuntimeError("no kernel")
        off = wrong if task.dtype == "float16" else 0.0
        return {"gated": 0.0, "d projected": off, "final": 0.0}

    monkeypatch.setattr(kernels, "deviations", found)
    monkeypatch.setattr(sys, "argv", ["kernels.py", "--device", "cpu"])
    assert kernels.main() == 1
    printed = capsys.readouterr().out
    assert "all within tolerance" not in printed
    assert ("WRONG NUMBERS" in printed) == (wrong is not None)


def test_kernels_that_differ_are_compiled_once_each(kernels):
    tasks = [
        kernels.sections_task(preset, length, 4, 512, "bfloat16", every, "cuda")
        for preset in kernels.PRESETS
        for length in (512, 4096, 16384, 65536)
        for every in (None, 50)
    ]
    chosen = kernels.distinct(tasks)
    assert {(task.model, task.starts_every) for task in chosen} == {(task.model, task.starts_every) for task in tasks}
    assert {task.length for task in chosen} == {512, 16384}  # chunks of long sequences are linked over several others
    assert {task.batch for task in chosen} == {1}


def test_a_part_that_fails_keeps_its_rows_and_leaves_the_others_alone(kernels, tmp_path):
    def rows():
        yield {"T": 1}
        raise RuntimeError("out of memory")

    result, out = {}, tmp_path / "out.json"
    assert not kernels.part("sections", rows(), result, out)
    assert kernels.part("block", iter([{"T": 2}]), result, out)
    assert json.loads(out.read_text()) == {"sections": [{"T": 1}], "block": [{"T": 2}]}
