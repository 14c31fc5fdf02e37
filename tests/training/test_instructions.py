"""How much of an instruction is read."""

from __future__ import annotations

import gymnasium
import pytest
from gymnasium import spaces

from mcsd_agent.training.instructions import encoder_for, vocabulary_for

LONG = "put the red ball next to the blue box on your left and " * 3 + "open the door, then pick up the grey key"


class Commander(gymnasium.Env):
    """Says one thing, and nothing of how long what it says may be."""

    observation_space = spaces.Dict({"x": spaces.Box(0.0, 1.0), "mission": spaces.Text(400)})
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return {"x": self.observation_space["x"].sample(), "mission": LONG}, {}


@pytest.mark.parametrize("kind", ["words", "sentence"])
@pytest.mark.parametrize("said", [(), ("go to the door", LONG)])
def test_the_longest_instruction_is_read_to_its_end(kind, said):
    encoder = encoder_for(Commander(), kind, said)
    assert (encoder.encode(LONG) != encoder.encode(LONG.replace("grey", "red"))).any()


def test_an_environment_says_how_many_words_it_needs_and_short_ones_leave_room():
    env = Commander()
    assert vocabulary_for(env, said=["go to the door"]).max_words == 24
    env.instruction_max_words = 12
    assert encoder_for(env, "words", [LONG]).max_words == 12
