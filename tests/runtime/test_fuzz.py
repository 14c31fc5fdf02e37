"""Thousands of mutated artifacts, read in a process that is watched: none crashes it, and none gets away with it.

Of every mutation one of these holds, or the process fails:

- it is refused, by `UserError`, in one printable line that begins with the artifact's name;
- its bytes are the original's (a mutation may change nothing);
- spec.json or the weights were forged (right hashes, canonical layout) and it loads: then each engine computes
  from the same inputs, bit for bit, what it computes from the original;
- the step was forged and it loads: then each engine runs some ticks, or reports that it cannot, by an exception.

Meanwhile no file is opened (by compiled code neither: the process may have no more files), no process started,
nothing compiled, imported or unpickled; memory is limited and each artifact has its time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from runtime.onnx_models import judging_artifact, tiny_artifact
from runtime.rich_artifact import rich_artifact

TESTS = Path(__file__).parent.parent
WORKER = Path(__file__).with_name("fuzz_artifacts.py")


def fuzz(seed: int, count: int, artifacts: list[bytes], folder: Path) -> dict[str, int]:
    paths = []
    for number, data in enumerate(artifacts):
        paths.append(folder / f"{number}.mcsd")
        paths[-1].write_bytes(data)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(WORKER), str(seed), str(count), *map(str, paths)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)
    assert result.returncode == 0, "\n".join(result.stderr.splitlines()[-30:])
    counts = json.loads(result.stdout.splitlines()[-1])["counts"]
    assert sum(counts.values()) == count
    # The mutations reach the deep readers and the engines: not everything stops at the first check.
    for kind in ("spec", "weights", "step"):
        assert counts[f"{kind}: refused"] > 0
        assert counts[f"{kind}: identical"] > 0
    assert counts["step: other"] > 0
    return counts


def test_mutated_artifacts_are_refused_or_harmless(tmp_path: Path) -> None:
    fuzz(1, 1500, [tiny_artifact(), rich_artifact(), judging_artifact()], tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_thousand_mutated_artifacts_are_refused_or_harmless(tmp_path: Path) -> None:
    """One of them exported from torch."""
    from mcsd_agent.artifact import export_policy
    from mcsd_agent.policy import PolicyConfig
    from mcsd_agent.training.runs import policy_for

    config = PolicyConfig(width=16, layers=1, head="binned", predict_success=True)
    policy = policy_for("mcsd/Nav-v0", {}, config, 0)
    export_policy(policy, tmp_path / "nav.mcsd", rate_hz=10.0)
    fuzz(2, 10_000, [judging_artifact(), rich_artifact(), (tmp_path / "nav.mcsd").read_bytes()], tmp_path)


def test_the_watch_notices_what_it_forbids() -> None:
    """The process fails when an artifact makes it open a file: the audit works."""
    code = (
        "import fuzz_artifacts as f\nf.verdict = lambda *a: open('/etc/passwd')\nf.confine()\nf.judge(None, b'', {})\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(WORKER.parent), str(TESTS), str(TESTS.parent)])}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert result.returncode == 1
    assert "forbidden while reading an artifact: open" in result.stderr
