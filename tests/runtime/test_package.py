"""Artifacts that were altered, cut, or made by another program are refused with a reason."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime.onnx_models import tiny_artifact, tiny_spec, tiny_step
from safetensors.numpy import save

from mcsd_agent.errors import UserError
from mcsd_agent.runtime.artifact_spec import FORMAT_VERSION
from mcsd_agent.runtime.package import MEMBERS, SPEC, STEP, WEIGHTS, build, pack, parse_package, read_package
from mcsd_agent.runtime.weights_file import read_weights
from mcsd_agent.spaces import BoxSpec

ARTIFACT = tiny_artifact()


def members(data: bytes = ARTIFACT) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def repacked(**changes: bytes) -> bytes:
    """The artifact with members replaced and its hashes brought up to date, as a forger would."""
    parts = members() | changes
    spec = json.loads(parts[SPEC])
    spec["sha256"] = {name: hashlib.sha256(parts[name]).hexdigest() for name in (WEIGHTS, STEP)}
    return pack(parts | {SPEC: json.dumps(spec).encode()})


def with_spec(**fields: Any) -> bytes:
    spec = json.loads(members()[SPEC])
    return pack(members() | {SPEC: json.dumps(spec | fields).encode()})


def refusal(data: bytes) -> str:
    with pytest.raises(UserError) as error:
        parse_package(data, "artifact 'a.mcsd'")
    message = str(error.value)
    assert message.startswith("artifact 'a.mcsd'")
    assert "\n" not in message
    return message


def test_what_is_built_reads_back_equal() -> None:
    package = parse_package(ARTIFACT, "a")
    spec = tiny_spec()
    assert (package.spec.observation, package.spec.action) == (spec.observation, spec.action)
    assert (package.spec.rate_hz, package.spec.state_shape, package.spec.metadata) == (10.0, (1, 3), spec.metadata)
    assert package.parameters == 6
    assert package.spec.state_bytes == 12
    assert package.step == tiny_step()


def test_artifact_is_an_ordinary_zip_file() -> None:
    with zipfile.ZipFile(io.BytesIO(ARTIFACT)) as archive:
        assert archive.testzip() is None
        assert tuple(archive.namelist()) == MEMBERS
        assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())


def test_same_content_gives_same_bytes() -> None:
    assert tiny_artifact() == ARTIFACT


def test_every_altered_byte_is_refused() -> None:
    """Each byte once, whether it belongs to a member, a header or the directory."""
    for position in range(len(ARTIFACT)):
        altered = bytearray(ARTIFACT)
        altered[position] ^= 1 + position % 255
        refusal(bytes(altered))


@given(
    st.integers(0, len(ARTIFACT) - 1),
    st.binary(max_size=8),
    st.integers(0, 8),
)
@settings(max_examples=200)
def test_every_mutation_is_refused(position: int, new: bytes, removed: int) -> None:
    mutated = ARTIFACT[:position] + new + ARTIFACT[position + removed :]
    if mutated != ARTIFACT:
        refusal(mutated)


@given(st.integers(0, len(ARTIFACT) - 1))
def test_every_shortened_file_is_refused(length: int) -> None:
    refusal(ARTIFACT[:length])


def test_bytes_after_the_end_are_refused() -> None:
    assert "altered" in refusal(ARTIFACT + b"\0") or "no intact artifact" in refusal(ARTIFACT + b"\0")
    refusal(b"#!/bin/sh\n" + ARTIFACT)


@pytest.mark.parametrize("name", MEMBERS)
def test_missing_member_is_named(name: str) -> None:
    assert repr(name) in refusal(pack({k: v for k, v in members().items() if k != name}))


def test_extra_member_is_named() -> None:
    assert "'evil.py' does not belong" in refusal(pack(members() | {"evil.py": b""}))


@pytest.mark.parametrize("name", [WEIGHTS, STEP])
def test_exchanged_member_is_named(name: str) -> None:
    parts = members()
    assert f"{name} was altered" in refusal(pack(parts | {name: parts[name][:-1] + b"!"}))


def test_recompressed_file_is_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members().items():
            archive.writestr(name, data)
    assert "compressed" in refusal(buffer.getvalue())


def test_newer_format_says_what_to_do() -> None:
    message = refusal(with_spec(format_version=FORMAT_VERSION + 1, something_new={}))
    assert f"format version {FORMAT_VERSION + 1}" in message
    assert "install a newer mcsd-agent" in message


def test_newer_format_may_have_other_members() -> None:
    spec = json.dumps({"format_version": 7}).encode()
    assert "install a newer mcsd-agent" in refusal(pack({SPEC: spec, "weights.zst": b""}))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"rate_hz": 0}, "rate_hz=0 must be a number above 0"),
        ({"rate_hz": "10"}, "rate_hz='10'"),
        ({"rate_hz": True}, "rate_hz=True"),
        ({"state_shape": [1]}, r"state_shape=[1] must be [layers, size]"),
        ({"state_shape": [1, 0]}, "state_shape=[1, 0]"),
        ({"state_shape": [10**6, 10**6]}, "too large"),
        ({"state_shape": [1, 4]}, "input 'state' is float32 (1, 1, 3) and spec.json says float32 (1, 1, 4)"),
        ({"format_version": 0}, "format_version"),
        ({"format_version": "1"}, "format_version"),
        ({"metadata": []}, "metadata must be a JSON object"),
        ({"parity": {"x": "y"}}, "parity.x must be a number"),
        ({"obervation": {}}, "unknown key 'obervation'; did you mean 'observation'?"),
        ({"observation": {}}, "at least one entry"),
        ({"observation": {"state": {"kind": "discrete", "n": 3}}}, "'state' is reserved"),
        ({"observation": {"x": {"kind": "disc", "n": 3}}}, "kind 'disc'"),
        ({"observation": {"x": {"kind": "discrete", "n": 0}}}, "n must be at least 1"),
        ({"observation": {"x": {"kind": "discrete", "m": 3}}}, "space 'x'"),
        ({"observation": {"x": {"kind": "multi_discrete", "nvec": [3, 0]}}}, "nvec"),
        ({"observation": {"x": {"kind": "box", "shape": [0]}}}, "shape must list"),
        ({"observation": {"x": {"kind": "box", "shape": "2"}}}, "shape must list"),
        ({"observation": {"x": {"kind": "box", "shape": [1 << 40]}}}, "too large"),
        ({"observation": {"x": {"kind": "box", "shape": [2], "dtype": "object"}}}, "dtype 'object'"),
        ({"observation": {"x": {"kind": "box", "shape": [2], "low": [0, 0, 0]}}}, "bounds must have 1 or 2 values"),
        ({"observation": {"x": {"kind": "box", "shape": [2], "low": ["0"]}}}, "bounds must be numbers"),
        ({"observation": {"x": {"kind": "box", "shape": [2], "low": [1], "high": [0]}}}, "low must not exceed high"),
        ({"observation": {"x": {"kind": "text", "max_words": 9}}}, "needs a vocabulary with max_words=9"),
        ({"vocabulary": None}, "needs a vocabulary"),
        ({"vocabulary": {"words": [1], "max_words": 4}}, "vocabulary"),
        ({"action": {"kind": "text", "max_words": 4}}, "action cannot be text"),
        ({"action": {"kind": "box", "shape": [3]}}, "output 'action'"),
        ({"observation": {"position": {"kind": "box", "shape": [2]}}}, "has the inputs"),
    ],
)
def test_every_field_is_checked(fields: dict[str, Any], reason: str) -> None:
    assert reason in refusal(with_spec(**fields))


@pytest.mark.parametrize("key", [k for k in json.loads(members()[SPEC]) if k != "format_version"])
def test_missing_key_is_named(key: str) -> None:
    spec = json.loads(members()[SPEC])
    del spec[key]
    assert key in refusal(pack(members() | {SPEC: json.dumps(spec).encode()}))


@pytest.mark.parametrize("text", [b"[]", b"{", b'{"a": 1, "a": 2}', b'{"a": NaN}', b"\xff", b"[" * 10_000])
def test_text_that_is_no_spec_is_refused(text: bytes) -> None:
    refusal(pack(members() | {SPEC: text}))


def test_nan_weights_are_refused_by_name() -> None:
    weights = save({"good": np.ones(2, np.float32), "bad": np.float32([1, np.nan])})
    assert "'bad' holds NaN" in refusal(repacked(**{WEIGHTS: weights}))


def test_nan_in_the_step_is_refused_by_name() -> None:
    model = onnx.load_from_string(tiny_step())
    constant = next(c for c in model.graph.initializer if c.name == "hundredth")
    constant.raw_data = np.float32([np.nan]).tobytes()
    assert "'hundredth' holds NaN" in refusal(repacked(**{STEP: model.SerializeToString()}))


@pytest.mark.parametrize("path", ["missing.mcsd", "."])
def test_unreadable_path_is_named(path: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"artifact .*; give the path of a \.mcsd file"):
        read_package(tmp_path / path)


def test_other_files_are_no_artifacts(tmp_path: Path) -> None:
    for content in (b"", b"hello", b"PK\x05\x06" + bytes(18)):
        (tmp_path / "a.mcsd").write_bytes(content)
        with pytest.raises(UserError, match=r"a\.mcsd"):
            read_package(tmp_path / "a.mcsd")


@given(st.binary(max_size=300))
def test_random_bytes_are_no_weights(data: bytes) -> None:
    with pytest.raises(UserError, match=r"weights\.safetensors is malformed"):
        read_weights(data, "a")


def test_weights_read_as_safetensors_wrote_them() -> None:
    arrays = {
        "b.w": np.arange(6, dtype=np.float32).reshape(2, 3),
        "a": np.float64([1, 2]),
        "flag": np.array([True, False]),
        "scalar": np.int64(-3),
        "empty": np.zeros((0, 2), np.float16),
    }
    found = read_weights(save({k: np.asarray(v) for k, v in arrays.items()}), "a")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_weights_cannot_overlap_or_leave_gaps() -> None:
    for offsets in ([0, 8], [8, 16]):
        header = {
            "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
            "b": {"dtype": "F32", "shape": [2], "data_offsets": offsets},
        }
        text = json.dumps(header).encode()
        body = bytes(8 if offsets == [0, 8] else 20)
        with pytest.raises(UserError, match="malformed"):
            read_weights(len(text).to_bytes(8, "little") + text + body, "a")


def test_box_bounds_of_one_value_count_for_all_entries() -> None:
    observation = dict(tiny_spec().observation) | {"position": BoxSpec((2,), low=(0.0,), high=(None,))}
    data = build(tiny_spec(observation=observation), save({}), tiny_step())
    low, high = parse_package(data, "a").spec.observation["position"].bounds()  # type: ignore[union-attr]
    assert (low.tolist(), high.tolist()) == ([0, 0], [np.inf, np.inf])
