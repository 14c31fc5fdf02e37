"""Streams: both engines alike, pure, strict about observations, constant in size."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime.onnx_models import tiny_artifact

from mcsd_agent.errors import UserError
from mcsd_agent.runtime import Stream
from mcsd_agent.runtime.observations import _MAX_CACHED_TEXTS, ObservationError, ObservationReader
from mcsd_agent.runtime.package import parse_package
from mcsd_agent.runtime.stream import engines_here
from mcsd_agent.spaces import BoxSpec, DiscreteSpec, MultiDiscreteSpec

PACKAGE = parse_package(tiny_artifact(), "tiny")
#: Those that run the step; `torch` rebuilds the policy, which this step has not. See test_artifact for all three.
ENGINES = [name for name in engines_here() if name != "torch"]


def observation(**changes: Any) -> dict[str, Any]:
    return {
        "position": np.float32([0.5, -0.5]),
        "action_root": np.float32([1]),
        "state_root": np.float32([1]),
        "instruction": "go left",
    } | changes


@pytest.fixture(params=ENGINES)
def stream(request: pytest.FixtureRequest) -> Stream:
    return Stream(PACKAGE, request.param)


def test_step_computes_what_the_model_says(stream: Stream) -> None:
    state = stream.initial_state()
    for tick in range(3):
        action, state = stream.step(observation(), state)
        # ids of "go left" are 2 and 3
        np.testing.assert_allclose(action, np.float32([0.55, -0.45]) + tick / 1000, atol=1e-6)
        np.testing.assert_array_equal(state, np.float32([[tick + 1, 0.5, -0.5]]))
    assert (action.dtype, action.shape) == (np.float32, (2,))


@given(
    st.lists(
        st.tuples(
            st.floats(-1e3, 1e3, width=32), st.sampled_from(["", "go", "left right", "go to mars!"]), st.booleans()
        ),
        min_size=1,
        max_size=8,
    )
)
def test_engines_agree_across_resets(ticks: list[tuple[float, str, bool]]) -> None:
    streams = [Stream(PACKAGE, engine) for engine in ENGINES]
    states = [s.initial_state() for s in streams]
    for position, text, starts in ticks:
        given_ = observation(position=np.float32([position, 1]), instruction=text)
        if starts:
            states = [s.initial_state() for s in streams]
        results = [s.step(given_, state) for s, state in zip(streams, states, strict=True)]
        states = [state for _, state in results]
        np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-6)
        np.testing.assert_allclose(states[0], states[1], rtol=1e-6)


def test_results_are_not_touched_by_later_steps(stream: Stream) -> None:
    first, state = stream.step(observation(), stream.initial_state())
    before = (first.copy(), state.copy())
    stream.step(observation(position=np.float32([9, 9]), instruction="right"), state)
    np.testing.assert_array_equal(first, before[0])
    np.testing.assert_array_equal(state, before[1])


def test_step_leaves_its_arguments_alone(stream: Stream) -> None:
    given_, state = observation(), stream.initial_state()
    stream.step(given_, state)
    assert state.tolist() == [[0, 0, 0]]
    assert given_["position"].tolist() == [0.5, -0.5]


def test_same_state_gives_same_result(stream: Stream) -> None:
    _, state = stream.step(observation(), stream.initial_state())
    expected = stream.step(observation(), state)
    stream.step(observation(position=np.float32([np.nan, np.nan])), state)
    for found, e in zip(stream.step(observation(), state), expected, strict=True):
        np.testing.assert_array_equal(found, e)


def test_state_has_the_same_size_after_any_number_of_ticks(stream: Stream) -> None:
    state = stream.initial_state()
    for _ in range(500):
        _, state = stream.step(observation(), state)
        assert (state.shape, state.nbytes) == ((1, 3), stream.spec.state_bytes)


def test_endless_new_texts_do_not_grow_the_cache() -> None:
    reader = ObservationReader(PACKAGE.spec)
    for i in range(3 * _MAX_CACHED_TEXTS):
        reader.read(observation(instruction=f"go {i}"))
    assert len(reader._readers["instruction"]._ids) == _MAX_CACHED_TEXTS  # type: ignore[attr-defined]


def test_text_is_encoded_once() -> None:
    reader = ObservationReader(PACKAGE.spec)
    first = reader.read(observation(instruction="go right"))["instruction"]
    assert reader.read(observation(instruction="go right"))["instruction"] is first
    assert first.tolist() == [[0, 0, 2, 4]]
    with pytest.raises(ValueError, match="read-only"):
        first[...] = 0
    assert reader.read(observation(instruction=""))["instruction"].tolist() == [[0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("changes", "name", "message"),
    [
        ({"position": np.zeros(3)}, "position", r"is float64 \(3,\); it must be numbers of shape \(2,\)"),
        ({"position": np.zeros((1, 2))}, "position", r"float64 \(1, 2\)"),
        ({"position": "north"}, "position", "is str"),
        ({"position": None}, "position", "is NoneType"),
        ({"position": [[1], [2, 3]]}, "position", "is list"),
        ({"position": np.array([True, False])}, "position", "bool"),
        ({"position": np.array([1j, 2])}, "position", "complex"),
        ({"instruction": 7}, "instruction", "is int; it must be a string"),
        ({"instruction": np.zeros(4, np.int64)}, "instruction", "must be a string"),
        ({"positon": np.zeros(2)}, "positon", "unknown observation 'positon'; did you mean 'position'?"),
    ],
)
def test_wrong_observations_are_named(stream: Stream, changes: dict[str, Any], name: str, message: str) -> None:
    with pytest.raises(ObservationError, match=message) as error:
        stream.step(observation(**changes), stream.initial_state())
    assert error.value.name == name
    assert "\n" not in str(error.value)


def test_missing_observation_is_named(stream: Stream) -> None:
    given_ = observation()
    del given_["state_root"]
    with pytest.raises(ObservationError, match="'state_root' is missing; the policy needs position, action_root"):
        stream.step(given_, stream.initial_state())


def test_one_array_for_many_observations_is_refused(stream: Stream) -> None:
    with pytest.raises(ObservationError, match="needs a dict of position"):
        stream.step(np.zeros(2), stream.initial_state())


@pytest.mark.parametrize("state", [np.zeros((1, 3)), np.zeros(3, np.float32), np.zeros((1, 1, 3), np.float32)])
def test_wrong_state_is_refused(stream: Stream, state: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"state is .* start from initial_state"):
        stream.step(observation(), state)


def test_any_real_numbers_are_taken_for_a_box(stream: Stream) -> None:
    expected = stream.step(observation(position=np.float32([1, 2])), stream.initial_state())[0]
    for same in ([1, 2], (1.0, 2.0), np.array([1, 2]), np.float64([1, 2]), np.uint8([1, 2])):
        found = stream.step(observation(position=same), stream.initial_state())[0]
        np.testing.assert_array_equal(found, expected)


def read_one(spec: Any, value: Any) -> np.ndarray:
    from mcsd_agent.runtime import ArtifactSpec

    reader = ObservationReader(ArtifactSpec({"x": spec}, DiscreteSpec(2), 1.0, (1, 1)))
    return reader.read(value)["x"]


def test_single_observation_needs_no_dict() -> None:
    assert read_one(BoxSpec((2,)), [1, 2]).tolist() == [[1, 2]]
    assert read_one(BoxSpec((2,)), {"x": [1, 2]}).tolist() == [[1, 2]]


def test_integers_outside_their_space_are_refused() -> None:
    assert read_one(DiscreteSpec(3), 2).tolist() == [2]
    assert read_one(MultiDiscreteSpec((3, 5)), np.uint8([2, 4])).tolist() == [[2, 4]]
    for spec, value, named in [
        (DiscreteSpec(3), 3, "3"),
        (DiscreteSpec(3), -1, "-1"),
        (MultiDiscreteSpec((3, 5)), [3, 4], "3"),
        (MultiDiscreteSpec((3, 5)), [0, -7], "-7"),
    ]:
        with pytest.raises(ObservationError, match=f"holds {named}; it must be from 0"):
            read_one(spec, value)
    with pytest.raises(ObservationError, match="must be integers"):
        read_one(DiscreteSpec(3), 1.0)


def test_images_must_be_uint8() -> None:
    spec = BoxSpec((8, 8, 3), "uint8", (0.0,), (255.0,))
    assert read_one(spec, np.full((8, 8, 3), 255, np.uint8)).dtype == np.uint8
    with pytest.raises(ObservationError, match="must be uint8"):
        read_one(spec, np.zeros((8, 8, 3), np.float32))


def test_a_step_for_one_robot_is_not_run_for_several() -> None:
    with pytest.raises(UserError, match="tiny was exported for one robot, not batch=3"):
        Stream(PACKAGE, batch=3)


@pytest.mark.parametrize("batch", [0, -1, 5000, 2.0, True, "2"])
def test_impossible_numbers_of_robots_are_refused(batch: Any) -> None:
    with pytest.raises(UserError, match=r"batch=.* must be a whole number from 1 to 4096"):
        Stream(PACKAGE, batch=batch)


def test_a_stream_of_one_robot_in_a_batch_has_that_dimension() -> None:
    stream = Stream(PACKAGE, "numpy", batch=1)
    action, state = stream.step([observation()], stream.initial_state())
    assert (action.shape, state.shape) == ((1, 2), (1, 1, 3))
    with pytest.raises(UserError, match="2 observations; this stream was loaded with batch=1"):
        stream.step([observation()] * 2, state)
    for wrong in (observation(), "go left", 3.0):
        with pytest.raises(UserError, match="it must be a sequence of 1"):
            stream.step(wrong, state)


def test_missing_torch_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mcsd_agent.torch_engine", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match=r"engine 'torch' needs torch; pip install 'mcsd-agent\[train\]'"):
        Stream(PACKAGE, "torch")


def test_unknown_engine_names_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown engine 'onxx'; did you mean 'onnx'"):
        Stream(PACKAGE, "onxx")


def test_missing_onnxruntime_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"pip install 'mcsd-agent\[onnx\]' or use engine='auto'"):
        Stream(PACKAGE, "onnx")
    Stream(PACKAGE)


def test_load_reads_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.mcsd").write_bytes(tiny_artifact())
    assert Stream.load(tmp_path / "a.mcsd", engine="numpy").spec == PACKAGE.spec
