"""Policies that say how likely their instruction has been carried out: network, artifact, engines."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from test_artifact import NAV, make_policy, observations

from mcsd_agent.artifact import export_policy, load_policy, policy_of
from mcsd_agent.cli import main
from mcsd_agent.errors import UserError
from mcsd_agent.export.pt2 import export_pt2
from mcsd_agent.policy import Policy
from mcsd_agent.runtime import Stream, read_package
from mcsd_agent.runtime.stream import engines_here


def judging_policy(**config: object) -> Policy:
    policy = make_policy(scan=True, predict_success=True, **config)  # type: ignore[arg-type]
    assert policy.success_net is not None
    with torch.no_grad():
        policy.success_net.weight.normal_()  # fresh ones are close to zero: make estimates that could deviate
    return policy.eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("judging") / "nav.mcsd"
    report = export_policy(judging_policy(), path, rate_hz=10, parity_observations=30)
    assert report.max_success_deviation is not None
    assert report.max_success_deviation < 1e-4
    return path


def spec_of(path: Path) -> dict:
    with zipfile.ZipFile(path) as file:
        return json.loads(file.read("spec.json"))


@pytest.mark.parametrize("engine", engines_here())
def test_every_engine_estimates_as_trained_for_one_robot_and_for_several(exported: Path, engine: str) -> None:
    policy, stream, pair = judging_policy(), Stream.load(exported, engine), Stream.load(exported, engine, batch=2)
    state, memory, memories = policy.initial_state(), stream.initial_state(), pair.initial_state()
    estimates = []
    for arrays in observations(stream.spec, 20):
        with torch.no_grad():
            _, expected, state = policy.act_and_judge({k: torch.from_numpy(a) for k, a in arrays.items()}, state)
        _, found, memory = stream.advance_and_judge(arrays, memory)
        _, both, memories = pair.advance_and_judge({k: np.concatenate([a, a]) for k, a in arrays.items()}, memories)
        assert found is not None
        assert both is not None
        assert (found.shape, both.shape, found.dtype) == ((), (2,), np.float32)
        np.testing.assert_allclose(found, expected[0].numpy(), atol=1e-5)
        np.testing.assert_allclose(both, float(expected[0]), atol=1e-5)
        estimates.append(float(found))
    assert 0 <= min(estimates) < max(estimates) <= 1


def test_artifact_says_that_it_predicts_success(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = spec_of(exported)
    assert (spec["format_version"], spec["predicts_success"], spec["policy"]["predict_success"]) == (3, True, True)
    loaded, original = load_policy(exported), judging_policy()
    assert loaded.config == original.config
    assert torch.equal(loaded.state_dict()["success_net.weight"], original.state_dict()["success_net.weight"])
    assert main(["inspect", str(exported)]) == 0
    assert "predicts_success: True" in capsys.readouterr().out


def test_without_it_nothing_is_said_that_older_programs_do_not_know(tmp_path: Path) -> None:
    path = tmp_path / "plain.mcsd"
    report = export_policy(make_policy(scan=True), path, rate_hz=10, parity_observations=2)
    spec = spec_of(path)
    assert spec["format_version"] == 1
    assert "success" not in json.dumps(spec)
    assert report.max_success_deviation is None


@pytest.mark.slow
def test_int8_and_pt2_predict_it_too(tmp_path: Path) -> None:
    policy, path, program = judging_policy(), tmp_path / "small.mcsd", tmp_path / "nav.pt2"
    report = export_policy(policy, path, rate_hz=10, weights="int8", parity_observations=10)
    assert report.rounding_max_success_deviation is not None
    assert 0 < report.rounding_max_success_deviation < 0.3
    export_pt2(policy, program)
    arrays = observations(Stream.load(path).spec, 1)[0]
    seen = {name: torch.from_numpy(arrays[name]) for name in NAV}
    expected = policy.act_and_judge(seen, policy.initial_state())[1]
    found = torch.export.load(program).module()(*seen.values(), policy.initial_state())[2]
    torch.testing.assert_close(found, expected)


def test_all_other_weights_begin_as_without_it() -> None:
    plain, judging = make_policy(scan=True).state_dict(), make_policy(scan=True, predict_success=True).state_dict()
    assert set(judging) - set(plain) == {"success_net.weight", "success_net.bias"}
    assert all(torch.equal(judging[name], tensor) for name, tensor in plain.items() if "action_net" not in name)
    features = torch.randn(4, 16)
    with pytest.raises(UserError, match="does not predict success"):
        make_policy(scan=True).success(features)


def test_config_that_contradicts_the_spec_is_refused(exported: Path) -> None:
    package = read_package(exported)
    network = {**package.spec.policy, "predict_success": False}
    other = dataclasses.replace(package, spec=dataclasses.replace(package.spec, policy=network))
    with pytest.raises(UserError, match="says that success is predicted, the other does not"):
        policy_of(other)
