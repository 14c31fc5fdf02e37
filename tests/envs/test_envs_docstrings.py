"""The examples in the docstrings run."""

import doctest
import importlib

import pytest

MODULES = (
    "card_games",
    "exploration",
    "flat_names",
    "frames",
    "nav",
    "nav_expert",
    "nav_world",
    "passive_tmaze",
    "positions",
    "vector_memory",
    "wrappers",
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_hold(name):
    result = doctest.testmod(importlib.import_module(f"envs.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
