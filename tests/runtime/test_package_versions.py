"""What may change in the file without breaking those who read it, and how the rest is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from runtime.onnx_models import tiny_artifact
from runtime.test_package import members, refusal, repacked, with_spec

from mcsd_agent.cli import main
from mcsd_agent.runtime.artifact_spec import FORMAT_VERSION
from mcsd_agent.runtime.onnx_numpy import OPSETS
from mcsd_agent.runtime.onnx_operators import FACTORIES
from mcsd_agent.runtime.package import SPEC, pack, parse_package

ARTIFACT = tiny_artifact()


def test_unknown_metadata_is_kept() -> None:
    later = {"env": "tiny", "licence": "MIT", "nested": {"a": [1, None, {"b": 2.5}]}}
    assert parse_package(with_spec(metadata=later), "a").spec.metadata == later


def test_further_parity_figures_are_kept() -> None:
    parity = {"observations": 1000, "success_rate_difference": 0.25}
    assert parse_package(with_spec(parity=parity), "a").spec.parity == parity


@pytest.mark.parametrize("key", ["requires", "normaliser", "Observation"])
def test_unknown_field_elsewhere_is_refused(key: str) -> None:
    assert f"unknown key {key!r}" in refusal(with_spec(**{key: []}))


def test_newer_version_is_refused_whatever_else_it_holds() -> None:
    """Only the beginning of the file is the same in every version: spec.json, stored, with its format_version."""
    newer = json.dumps({"format_version": FORMAT_VERSION + 1, "observation": 7}).encode()
    for data in (
        pack({SPEC: newer}),
        pack({SPEC: newer, "weights.zst": b"x", "step.fp8": b"y"}),
        pack({SPEC: newer}) + b"anything",
    ):
        message = refusal(data)
        assert f"format version {FORMAT_VERSION + 1} and this program reads up to {FORMAT_VERSION}" in message
        assert "install a newer mcsd-agent" in message


def test_spec_comes_first() -> None:
    parts = members()
    assert "'spec.json' is missing" in refusal(pack({k: parts[k] for k in reversed(parts)}))


def test_order_and_spacing_of_the_json_do_not_matter() -> None:
    spec = json.loads(members()[SPEC])
    text = json.dumps(dict(reversed(spec.items())), separators=(",", ":")).encode()
    assert parse_package(pack(members() | {SPEC: text}), "a").spec == parse_package(ARTIFACT, "a").spec


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"observation": {"x": {"kind": []}}}, "kind []"),
        ({"observation": {"x": {"kind": "discrete", "n": 10**19}}}, "n must be at least 1 and at most"),
        ({"observation": {"x": {"kind": "box", "shape": [1] * 40}}}, "too large"),
        ({"observation": {f"x{i}": {"kind": "discrete", "n": 2} for i in range(300)}}, "at most 256"),
        ({"vocabulary": {"words": [], "max_words": True}}, "max_words"),
        ({"vocabulary": {"words": [], "max_words": 1 << 40}}, "max_words"),
        ({"parity": {"x": True}}, "parity.x must be a number"),
        ({"a\nb\x1b[2J": 1}, r"'a\nb\x1b[2J'"),
        ({"parity": {"a\nb": ""}}, r"parity.a\nb must be a number"),
        ({"x" * 100_000: 1}, "unknown key 'xxx"),
    ],
)
def test_hostile_values_are_refused_in_one_line(fields: dict[str, Any], reason: str) -> None:
    message = refusal(with_spec(**fields))
    assert reason in message
    assert message.isprintable()
    assert len(message) < 700


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1" * 5000, "NaN", "Infinity"])
def test_numbers_that_are_none_are_refused(number: str) -> None:
    text = members()[SPEC].replace(b'"env": "tiny"', f'"env": {number}'.encode())
    assert "not valid JSON" in refusal(pack(members() | {SPEC: text}))


@pytest.mark.parametrize(
    "header",
    [
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0.0,4]}}',
        b'{"a":{"dtype":"F32","shape":[true],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"more":1}}',
        b'{"a":{"dtype":"BOOL","shape":[4],"data_offsets":[0,4]}}',
    ],
)
def test_weights_that_other_readers_would_read_otherwise_are_refused(header: bytes) -> None:
    weights = len(header).to_bytes(8, "little") + header + b"\x00\x00\x80\x3f"
    assert "weights.safetensors is malformed" in refusal(repacked(**{"weights.safetensors": weights}))


def test_inspect_shows_all_there_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.mcsd").write_bytes(ARTIFACT)
    assert main(["inspect", str(tmp_path / "a.mcsd"), "--json"]) == 0
    shown, _, last = capsys.readouterr().out.rstrip().rpartition("\n")
    found = json.loads(last)
    assert (found["format_version"], found["rate_hz"], found["parameters"], found["state_bytes"]) == (1, 10.0, 6, 12)
    assert found["weights"] == {"float32": 6}
    assert found["step"]["nodes"] == 17
    assert found["observation"]["position"] == "box (2,) float32"
    assert found["parity"] == {"observations": 1, "max_action_deviation": 0.0, "max_state_deviation": 0.0}
    assert set(found["sha256"]) == {"weights.safetensors", "step.onnx", "file"}
    assert found["signature"] == "none"
    for key in found:
        assert f"{key}:" in shown


def test_inspect_shows_no_control_characters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = {"env": "\x1b]0;owned\x07\ud800", "\x1b[2J": 1}
    (tmp_path / "a.mcsd").write_bytes(with_spec(metadata=hostile))
    assert main(["inspect", str(tmp_path / "a.mcsd")]) == 0
    assert all(line.isprintable() for line in capsys.readouterr().out.splitlines())


def test_inspect_does_not_import_an_engine_of_compiled_code(tmp_path: Path) -> None:
    (tmp_path / "a.mcsd").write_bytes(ARTIFACT)
    code = (
        "import sys\nfrom mcsd_agent.cli import main\nmain(['inspect', sys.argv[1]])\n"
        "assert not {'onnxruntime', 'torch', 'cryptography'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.mcsd")]
    subprocess.run(command, check=True, capture_output=True, env=os.environ)


def test_the_document_lists_every_operator_and_field() -> None:
    page = (Path(__file__).parent.parent.parent / "docs/artifact.md").read_text(encoding="utf-8")
    assert [name for name in FACTORIES if f"`{name}`" not in page] == []
    assert [name for name in json.loads(members()[SPEC]) if f"| `{name}` |" not in page] == []
    assert f"operator set {OPSETS.start} to {OPSETS.stop - 1} of ONNX" in page
    assert f"This is format version {FORMAT_VERSION}." in page
