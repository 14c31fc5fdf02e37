"""Export and loading: what the robot runs is what was trained, or nothing is written."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from mcsd_agent.artifact import export_policy, load_policy
from mcsd_agent.backbone import MCSDBackbone
from mcsd_agent.cell import MCSDConfig
from mcsd_agent.cli import main
from mcsd_agent.encoders import EncoderConfig
from mcsd_agent.errors import UserError
from mcsd_agent.export import whole_file
from mcsd_agent.export.observations import episodes, sample
from mcsd_agent.export.onnx_step import export_backbone
from mcsd_agent.export.pt2 import export_pt2
from mcsd_agent.export.weights import rounded
from mcsd_agent.language import Vocabulary
from mcsd_agent.policy import Policy, PolicyConfig
from mcsd_agent.runtime import ArtifactSpec, Stream, read_package
from mcsd_agent.runtime.onnx_file import read_model
from mcsd_agent.runtime.package import build
from mcsd_agent.runtime.stream import ENGINES, engines_here
from mcsd_agent.spaces import BoxSpec, DiscreteSpec, MultiDiscreteSpec, Spec, TextSpec

VOCABULARY = Vocabulary.from_texts(["go to the red ball", "face the blue box"], max_words=8)
NAV: dict[str, Spec] = {
    "ranges": BoxSpec((5,), low=(0.0,), high=(4.0,)),
    "labels": MultiDiscreteSpec((14,) * 5),
    "wheels": BoxSpec((2,)),
    "instruction": TextSpec(8),
}
DRIVE = BoxSpec((2,), low=(0.0, -1.5), high=(0.6, 1.5), unit="m/s, rad/s", names=("speed", "turn"))
SCAN = EncoderConfig(scan=("ranges", "labels"), ray_width=4, word_width=4, instruction_width=8)


def make_policy(
    observation: dict[str, Spec] | None = None, action: Spec = DRIVE, *, scan: bool = False, **config: Any
) -> Policy:
    torch.manual_seed(0)
    encoder = SCAN if scan else dataclasses.replace(SCAN, scan=())
    policy = Policy(
        observation or NAV, action, PolicyConfig(width=16, channels=2, encoder=encoder, **config), VOCABULARY
    )
    with torch.no_grad():
        # Fresh heads are close to zero: make actions that could deviate.
        for parameter in policy.action_net.parameters():
            parameter.normal_(std=0.2)
    return policy


def observations(spec: ArtifactSpec, count: int) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    return [{name: sample(s, rng, spec) for name, s in spec.observation.items()} for _ in range(count)]


def assert_same_actions(policy: Policy, stream: Stream, count: int = 30) -> None:
    """With a reset half-way."""
    for part in range(2):
        state, memory = policy.initial_state(), stream.initial_state()
        for arrays in observations(stream.spec, count)[part::2]:
            with torch.no_grad():
                action, state = policy.act({k: torch.from_numpy(a) for k, a in arrays.items()}, state)
            found, memory = stream.advance(arrays, memory)
            np.testing.assert_allclose(found, action[0].numpy(), atol=1e-4)
            np.testing.assert_allclose(memory, state[0].numpy(), atol=1e-4, rtol=1e-4)


def assert_batch_equals_single(path: Path, engine: str, robots: int = 3, ticks: int = 6) -> None:
    """Robots in one stream and each in its own; one of them starts a new episode on the way."""
    single, batched = Stream.load(path, engine), Stream.load(path, engine, batch=robots)
    states, memory = [single.initial_state() for _ in range(robots)], batched.initial_state()
    drawn = observations(single.spec, robots * ticks)
    for tick in range(ticks):
        rows = drawn[tick * robots : (tick + 1) * robots]
        if tick == ticks // 2:
            states[1], memory[1] = single.initial_state(), 0.0
        results = [single.advance(row, state) for row, state in zip(rows, states, strict=True)]
        states = [state for _, state in results]
        actions, memory = batched.advance({k: np.concatenate([r[k] for r in rows]) for k in rows[0]}, memory)
        np.testing.assert_allclose(actions, np.stack([a for a, _ in results]), atol=1e-5)
        np.testing.assert_allclose(memory, np.stack(states), atol=1e-5, rtol=1e-5)


POLICIES: dict[str, dict[str, Any]] = {
    "extended": {"scan": True, "head": "binned", "bins": (5, 9)},
    "paper": {"preset": "paper"},
    "every switch": {"conv": True, "block_diagonal": True, "selective": False},
    "gru": {"backbone": "gru"},
    "lstm": {"backbone": "lstm"},
    "transformer": {"backbone": "transformer", "window": 7},
    "state space": {"backbone": "ssm"},
    "mingru": {"backbone": "mingru"},
    "no memory": {"backbone": "none", "layers": 1},
    "image and discrete": {
        "observation": {"camera": BoxSpec((16, 16, 3), "uint8", (0.0,), (255.0,)), "gear": DiscreteSpec(3)},
        "action": DiscreteSpec(4),
    },
    "single vector": {"observation": {"observation": BoxSpec((3,), low=(None, 0.0, -1.0), high=(None, None, 1.0))}},
}


#: What is not the default: most of the seconds, for what the others show.
OTHER_BACKBONES = ("every switch", "lstm", "transformer", "state space", "mingru")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.thorough if name in OTHER_BACKBONES else ()) for name in POLICIES],
)
def test_every_kind_of_policy_runs_as_trained_in_all_engines(name: str, tmp_path: Path) -> None:
    policy = make_policy(**POLICIES[name]).train()
    path = tmp_path / "policy.mcsd"
    report = export_policy(policy, path, rate_hz=10, parity_observations=60)
    assert policy.training, "the caller's policy is left as it was"
    assert report.observations == 60
    assert max(report.max_action_deviation, report.max_state_deviation) <= 1e-4
    for engine in engines_here():
        assert_same_actions(policy.eval(), Stream.load(path, engine), count=16)
        assert_batch_equals_single(path, engine)
    loaded = load_policy(path)
    assert loaded.config == policy.config
    for key, tensor in policy.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], tensor)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("artifact") / "nav.mcsd"
    export_policy(make_policy(scan=True), path, rate_hz=10, metadata={"env": "mcsd/Nav-v0"}, parity_observations=20)
    return path


def test_artifact_says_everything_a_robot_needs(exported: Path) -> None:
    package = read_package(exported)
    spec = package.spec
    assert spec.observation == NAV
    assert spec.action == DRIVE
    assert (spec.rate_hz, spec.format_version) == (10.0, 1)
    assert spec.metadata["env"] == "mcsd/Nav-v0"
    assert spec.metadata["versions"]["torch"] == torch.__version__
    assert spec.parity["observations"] == 20
    assert spec.state_shape == make_policy(scan=True).state_shape
    assert package.parameters == sum(w.size for w in package.weights.values() if w.dtype.kind == "f")


def test_artifact_does_not_tell_about_the_machine_that_made_it(exported: Path) -> None:
    data = exported.read_bytes()
    for private in (b"site-packages", b".py", str(Path.home()).encode()):
        assert private not in data


def test_same_policy_gives_same_file(exported: Path, tmp_path: Path) -> None:
    export_policy(
        make_policy(scan=True), tmp_path / "b.mcsd", rate_hz=10, metadata={"env": "mcsd/Nav-v0"}, parity_observations=20
    )
    assert (tmp_path / "b.mcsd").read_bytes() == exported.read_bytes()


def test_text_goes_in_as_words(exported: Path) -> None:
    stream = Stream.load(exported)
    arrays = {k: v[0] for k, v in observations(stream.spec, 1)[0].items()}
    said = stream.step(arrays | {"instruction": "go to the red ball"}, stream.initial_state())[0]
    silent = stream.step(arrays | {"instruction": ""}, stream.initial_state())[0]
    assert not np.allclose(said, silent, atol=1e-5)


def test_export_is_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder) -> None:
    export_policy(make_policy(layers=1), tmp_path / "a.mcsd", rate_hz=10, parity_observations=1)
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""
    assert not recwarn.list


@pytest.mark.parametrize(("value", "what"), [(float("nan"), "NaN"), (float("inf"), "an infinite value")])
def test_weights_that_are_no_numbers_are_named_and_nothing_is_written(value: float, what: str, tmp_path: Path) -> None:
    policy = make_policy()
    with torch.no_grad():
        policy.action_net[0].weight[1, 2] = value
    with pytest.raises(UserError, match=rf"'action_net\.0\.weight' holds {what}"):
        export_policy(policy, tmp_path / "a.mcsd", rate_hz=10)
    assert not list(tmp_path.iterdir())


def test_engines_that_differ_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    policy = make_policy(layers=1)

    # The exporter traces one branch; what depends on the data beyond it does not reach the file.
    class Shifty(Policy):
        calls = 0

        def act(self, observation: Any, state: Any) -> Any:
            type(self).calls += 1
            action, state = super().act(observation, state)
            return action + 0.01 * (type(self).calls % 7), state

    policy.__class__ = Shifty
    with pytest.raises(UserError, match=r"exported actions differ from torch's by 0\.0.*nothing was written"):
        export_policy(policy, tmp_path / "a.mcsd", rate_hz=10, parity_observations=30)
    assert not list(tmp_path.iterdir())


def test_an_engine_that_mixes_up_robots_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = ENGINES["numpy"]

    class MixesUp:
        def __init__(self, package: Any, batch: int) -> None:
            self.engine = make(package, batch)

        def run(self, inputs: Any) -> Any:
            return tuple(np.roll(array, 1, 0) for array in self.engine.run(inputs))  # with one robot nothing changes

    monkeypatch.setitem(ENGINES, "numpy", MixesUp)
    with pytest.raises(UserError, match="nothing was written"):
        export_policy(make_policy(layers=1), tmp_path / "a.mcsd", rate_hz=10, parity_observations=30)
    assert not list(tmp_path.iterdir())


def test_failed_write_leaves_the_old_file(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.mcsd"
    path.write_bytes(exported.read_bytes())

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(whole_file.os, "fsync", full)
    with pytest.raises(UserError, match=r"a\.mcsd': No space left on device"):
        export_policy(make_policy(layers=1), path, rate_hz=10, parity_observations=1)
    assert path.read_bytes() == exported.read_bytes()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rate_hz": 0}, "rate_hz=0 must be above 0"),
        ({"rate_hz": float("nan")}, "rate_hz=nan"),
        ({"parity_observations": 0}, "parity_observations=0"),
        ({"metadata": {"x": object()}}, "metadata must be plain JSON"),
        ({"metadata": {"x": float("nan")}}, "metadata must be plain JSON"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        export_policy(make_policy(layers=1), tmp_path / "a.mcsd", **({"rate_hz": 10.0} | arguments))


def test_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/a\.mcsd'.*give a path"):
        export_policy(make_policy(layers=1), tmp_path / "file" / "a.mcsd", rate_hz=10, parity_observations=1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: s["policy"].update(width=32), "size mismatch"),
        (lambda s: s["policy"].update(layers=1), "Unexpected key"),
        (lambda s: s["policy"].update(widht=16), "unknown key 'policy.widht'"),
        (lambda s: s["policy"].update(channels=5), "width=16"),
    ],
)
def test_weights_that_do_not_fit_their_config_are_refused(
    change: Any, reason: str, exported: Path, tmp_path: Path
) -> None:
    package = read_package(exported)
    fields = json.loads(json.dumps(package.spec.to_json()))
    change(fields)
    spec = dataclasses.replace(package.spec, policy=fields["policy"])
    weights = save({k: np.ascontiguousarray(w) for k, w in package.weights.items()})
    (tmp_path / "a.mcsd").write_bytes(build(spec, weights, package.step))
    with pytest.raises(UserError, match=f"do not fit this program: .*{reason}"):
        load_policy(tmp_path / "a.mcsd")


def test_samples_stay_within_bounds_and_cover_them() -> None:
    spec = ArtifactSpec(NAV, DRIVE, 10.0, (1, 1), VOCABULARY.to_json())
    drawn = observations(spec, 300)
    ranges = np.concatenate([o["ranges"] for o in drawn])
    assert ranges.dtype == np.float32
    assert 0 <= ranges.min() < 0.1
    assert 3.9 < ranges.max() <= 4
    labels = np.concatenate([o["labels"] for o in drawn])
    assert set(labels.ravel().tolist()) == set(range(14))
    text = np.concatenate([o["instruction"] for o in drawn])
    assert set(text.ravel().tolist()) == set(range(VOCABULARY.size))
    assert ((text[:, :-1] == 0) | (text[:, 1:] != 0)).all(), "padded on the left"
    wheels = np.abs(np.concatenate([o["wheels"] for o in drawn]))
    assert wheels.min() < 0.01 < 10 < wheels.max()
    one_sided = sample(BoxSpec((4,), low=(1.0,)), np.random.default_rng(0), spec)
    assert (one_sided >= 1).all()


# --- fewer bytes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("extended", "float16"),
        ("paper", "int8"),
        pytest.param("paper", "bfloat16", marks=pytest.mark.thorough),
        pytest.param("every switch", "int8", marks=pytest.mark.thorough),
        pytest.param("lstm", "int8", marks=pytest.mark.thorough),
        pytest.param("image and discrete", "int8", marks=pytest.mark.thorough),
    ],
)
def test_rounded_weights_run_the_same_in_all_engines_and_load(name: str, weights: Any, tmp_path: Path) -> None:
    policy = make_policy(**POLICIES[name]).eval()
    path = tmp_path / "small.mcsd"
    report = export_policy(policy, path, rate_hz=10, weights=weights, parity_observations=40)
    assert max(report.max_action_deviation, report.max_state_deviation) <= 1e-4
    assert report.rounding_max_state_deviation > 1e-5, "rounding changes something, and it is told"
    package = read_package(path)
    assert package.spec.parity["rounding_max_state_deviation"] == report.rounding_max_state_deviation
    assert package.spec.metadata["weights"] == weights
    loaded = load_policy(path)
    assert sum(p.numel() for p in loaded.parameters()) <= package.parameters
    for engine in engines_here():
        assert_same_actions(loaded, Stream.load(path, engine), count=10)


@pytest.mark.thorough
def test_small_weights_make_small_files_and_steps(tmp_path: Path) -> None:
    torch.manual_seed(0)
    policy = Policy({"observation": BoxSpec((32,))}, DRIVE)
    sizes = {}
    for weights in ("float32", "float16", "bfloat16", "int8"):
        path = tmp_path / weights
        export_policy(policy, path, rate_hz=10, weights=weights, parity_observations=5)
        sizes[weights] = path.stat().st_size
        held = read_package(path).model.constants
        assert max(a.nbytes for a in held.values() if a.dtype == np.float32) <= (1 << 20), weights
    assert sizes["float16"] < 0.55 * sizes["float32"]
    assert sizes["bfloat16"] < 0.55 * sizes["float32"]
    assert sizes["int8"] < 0.3 * sizes["float32"]


def test_int8_is_within_half_a_step_of_each_output_channel() -> None:
    policy = make_policy()
    changed, stored = rounded(policy, "int8")
    name = "backbone.mlps.0.inward.weight"
    before, after = policy.state_dict()[name], changed.state_dict()[name]
    step = before.abs().amax(1, keepdim=True) / 127
    assert stored[name].dtype is torch.int8
    assert ((before - after).abs() <= 0.501 * step).all()
    assert (before.abs().amax(1) == 0).any() or (stored[name].abs().amax(1) == 127).all()


def test_weights_too_large_for_float16_are_named(tmp_path: Path) -> None:
    policy = make_policy()
    with torch.no_grad():
        policy.backbone.get_parameter("mlps.0.inward.weight")[0, 0] = 1e5
    with pytest.raises(UserError, match=r"'backbone\.mlps\.0\.inward\.weight' holds 1e\+05, too large for float16"):
        export_policy(policy, tmp_path / "a.mcsd", rate_hz=10, weights="float16")
    assert not list(tmp_path.iterdir())


def test_unknown_weights_name_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown weights 'int9'; did you mean 'int8'"):
        export_policy(make_policy(layers=1), tmp_path / "a.mcsd", rate_hz=10, weights="int9")  # type: ignore[arg-type]


# --- the program of torch.export --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["extended", "image and discrete"])
def test_pt2_is_the_policy_for_any_batch(name: str, tmp_path: Path) -> None:
    policy = make_policy(**POLICIES[name]).eval()
    export_pt2(policy, tmp_path / "step.pt2")
    program = torch.export.load(tmp_path / "step.pt2").module()
    spec = ArtifactSpec(policy.observation_specs, policy.action_spec, 10.0, policy.state_shape, VOCABULARY.to_json())
    for batch in (1, 4):
        drawn = observations(spec, batch)
        arrays = {k: torch.from_numpy(np.concatenate([o[k] for o in drawn])) for k in policy.observation_specs}
        state = 0.1 * torch.randn(batch, *policy.state_shape)
        with torch.no_grad():
            for found, expected in zip(program(*arrays.values(), state), policy.act(arrays, state), strict=True):
                torch.testing.assert_close(found, expected)
    assert [p.name for p in tmp_path.iterdir()] == ["step.pt2"]


def test_pt2_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/step\.pt2.*give a path that can be written"):
        export_pt2(make_policy(layers=1), tmp_path / "file" / "step.pt2")


# --- the check ---------------------------------------------------------------------------------------


def test_checks_meet_resets_repeats_constants_corners_and_extremes() -> None:
    spec = ArtifactSpec(NAV, DRIVE, 10.0, (1, 1), VOCABULARY.to_json())
    drawn = list(episodes(spec, 1000, 0))
    starts = [i for i, (start, _) in enumerate(drawn) if start]
    assert starts[0] == 0
    lengths = np.diff([*starts, 1000])
    assert lengths.min() < 3
    assert lengths.max() > 30
    arrays = [a for _, a in drawn]
    assert sum(all((a[k] == b[k]).all() for k in a) for a, b in itertools.pairwise(arrays)) > 50
    assert sum(bool((a["ranges"] == a["ranges"][0, 0]).all()) for a in arrays) > 50
    assert sum(bool(np.isin(a["ranges"], (0.0, 4.0)).all()) for a in arrays) > 50
    assert sum(bool(np.isin(a["labels"], (0, 13)).all()) for a in arrays) > 50
    wheels = np.abs(np.stack([a["wheels"] for a in arrays]))
    assert wheels.max() > 1e4
    assert np.isfinite(wheels).all()
    again = list(episodes(spec, 1000, 0))
    assert all((a[k] == b[k]).all() for (_, a), (_, b) in zip(drawn, again, strict=True) for k in a)


def test_step_of_the_default_backbone_has_few_nodes() -> None:
    """Of the backbone alone; torch's exporter makes about 160."""
    net = MCSDBackbone(MCSDConfig(width=32, channels=4), 2)
    nodes = read_model(export_backbone(net, 32), "step").nodes
    assert len(nodes) <= 55
    assert len([n for n in nodes if n.operator == "Gemm"]) == 2 * 7, "a layer: four branches, its output, the MLP's two"
    assert not [n for n in nodes if n.operator in ("MatMul", "Sub", "Div")], "they are part of the products"


@pytest.mark.thorough
def test_the_command_exports_small_weights_and_a_program(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, program = tmp_path / "small.mcsd", tmp_path / "step.pt2"
    arguments = ["export", str(exported), "--out", str(out), "--weights", "int8", "--pt2", str(program), "--json"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "rounding to int8 changed actions by at most" in printed
    result = json.loads(printed.splitlines()[-1])
    assert (result["observations"], result["weights"], result["pt2"]) == (1000, "int8", str(program))
    assert 0 < result["rounding_mean_action_deviation"] <= result["rounding_max_action_deviation"]
    assert read_package(out).spec.parity["observations"] == 1000
    torch.export.load(program)
    assert main([*arguments[:4], "--weights", "int7"]) == 2
    assert "unknown weights 'int7'" in capsys.readouterr().err
