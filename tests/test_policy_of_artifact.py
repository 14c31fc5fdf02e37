"""A policy in torch is made from an artifact's config only where its weights could fill it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from mcsd_agent.artifact import export_policy, policy_of
from mcsd_agent.errors import UserError
from mcsd_agent.policy import Policy, PolicyConfig
from mcsd_agent.runtime.package import Package, read_package
from mcsd_agent.spaces import BoxSpec


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    path = tmp_path_factory.mktemp("artifact") / "a.mcsd"
    config = PolicyConfig(width=16, channels=2, layers=1)
    export_policy(Policy({"x": BoxSpec((2,))}, BoxSpec((1,)), config, None), path, rate_hz=10.0)
    return read_package(path)


@pytest.mark.parametrize(
    "sizes", [{"layers": 10**9}, {"bins": [10**9]}, {"width": 10**9}, {"width": 1e300}, {"layers": None}, {"width": 32}]
)
def test_config_that_its_weights_cannot_fill_is_refused_at_once(package: Package, sizes: dict[str, Any]) -> None:
    spec = dataclasses.replace(package.spec, policy={**package.spec.policy, **sizes})
    with pytest.raises(UserError, match="weights and policy config do not fit this program"):
        policy_of(dataclasses.replace(package, spec=spec))


def test_config_as_exported_is_filled(package: Package) -> None:
    assert policy_of(package).config.width == 16
