from __future__ import annotations

import json

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from mcsd_agent.errors import UserError
from mcsd_agent.spaces import BoxSpec, DiscreteSpec, MultiDiscreteSpec, TextSpec, from_json, specs_from_space, to_json

EVERY_KIND = spaces.Dict(
    {
        "box": spaces.Box(np.array([0.0, -1.5], np.float32), np.array([0.6, np.inf], np.float32)),
        "image": spaces.Box(0, 255, (8, 8, 3), np.uint8),
        "discrete": spaces.Discrete(3),
        "many": spaces.MultiDiscrete([3, 4]),
        "text": spaces.Text(10),
    }
)


def test_specs_survive_json_exactly():
    for name, spec in specs_from_space(EVERY_KIND).items():
        assert from_json(json.loads(json.dumps(to_json(spec))), name) == spec


def test_bounds_are_those_of_the_space():
    low, high = specs_from_space(EVERY_KIND)["box"].bounds()
    np.testing.assert_array_equal(low, EVERY_KIND["box"].low)
    np.testing.assert_array_equal(high, EVERY_KIND["box"].high)
    assert specs_from_space(EVERY_KIND)["image"].is_image


def test_a_single_space_is_named_observation():
    assert specs_from_space(gymnasium.make("CartPole-v1").observation_space)["observation"].shape == (4,)


def test_shapes_and_kinds():
    specs = specs_from_space(EVERY_KIND, max_words=7)
    assert specs["discrete"] == DiscreteSpec(3)
    assert specs["many"] == MultiDiscreteSpec((3, 4))
    assert specs["text"] == TextSpec(7)
    assert specs_from_space(spaces.MultiBinary(3))["observation"] == MultiDiscreteSpec((2, 2, 2))
    assert isinstance(specs["box"], BoxSpec)


@pytest.mark.parametrize("space", [spaces.MultiBinary([3, 2]), spaces.Discrete(3, start=1), spaces.Tuple([])])
def test_other_spaces_are_refused(space):
    with pytest.raises(UserError):
        specs_from_space(space)


@pytest.mark.parametrize("data", [None, {}, {"kind": "box"}, {"kind": "sphere"}, {"kind": "discrete", "n": 2, "x": 1}])
def test_unknown_json_is_refused(data):
    with pytest.raises(UserError, match="'speed'"):
        from_json(data, "speed")
