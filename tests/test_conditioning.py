"""Instructions and what they change: every way of conditioning, over a view of cells and over a lidar scan."""

from __future__ import annotations

import pytest
import torch

from mcsd_agent.artifact import export_policy
from mcsd_agent.conditioning import LanguageAttention
from mcsd_agent.encoders import EncoderConfig
from mcsd_agent.errors import UserError
from mcsd_agent.language import Vocabulary
from mcsd_agent.policy import Policy, PolicyConfig
from mcsd_agent.runtime import Stream
from mcsd_agent.spaces import BoxSpec, DiscreteSpec, MultiDiscreteSpec, TextSpec

VOCABULARY = Vocabulary.from_texts(["go to the red ball", "face the blue box"], max_words=6)
CELLS, TIME = 9, 7
SCAN = {"ranges": BoxSpec((5,), low=(0.0,), high=(4.0,)), "labels": MultiDiscreteSpec((14,) * 5)}
GRID = {"image": MultiDiscreteSpec((11, 6, 4) * CELLS), "direction": DiscreteSpec(4)}
WAYS = ["film", "attention", "both", "prefix"]


def policy(conditioning: str, kind: str) -> Policy:
    torch.manual_seed(0)
    config = EncoderConfig(
        scan=("ranges", "labels") if kind == "scan" else (),
        grid="image" if kind == "grid" else "",
        ray_width=4,
        cell_width=8,
        instruction_width=16,
        conditioning=conditioning,  # type: ignore[arg-type]
    )
    specs = {**(SCAN if kind == "scan" else GRID), "mission": TextSpec(6)}
    return Policy(specs, DiscreteSpec(3), PolicyConfig(width=16, channels=4, layers=1, encoder=config), VOCABULARY)


def observations(kind: str) -> dict[str, torch.Tensor]:
    """Two episodes of seven ticks; what is said changes after the third."""
    generator = torch.Generator().manual_seed(1)
    said = [torch.from_numpy(VOCABULARY.encode(t)) for t in ("go to the red ball", "face the blue box")]
    mission = torch.stack([said[0]] * 3 + [said[1]] * (TIME - 3)).expand(2, TIME, 6)
    if kind == "scan":
        ranges = 4 * torch.rand(2, TIME, 5, generator=generator, dtype=torch.float64)
        return {"ranges": ranges, "labels": torch.randint(0, 14, (2, TIME, 5), generator=generator), "mission": mission}
    counts = torch.tensor(GRID["image"].nvec)
    image = torch.randint(0, 1000, (2, TIME, len(counts)), generator=generator) % counts
    return {"image": image, "direction": torch.randint(0, 4, (2, TIME), generator=generator), "mission": mission}


@pytest.mark.parametrize("kind", ["scan", "grid"])
@pytest.mark.parametrize("conditioning", WAYS)
def test_a_sequence_is_its_steps_and_a_new_instruction_acts_on_the_next_tick(conditioning, kind):
    net, seen = policy(conditioning, kind).double(), observations(kind)
    features, final = net.scan(seen, net.initial_state(2))
    state = net.initial_state(2)
    for t in range(TIME):
        now = {k: v[:, t] for k, v in seen.items()}
        before = state
        one, state = net.step(now, before)
        torch.testing.assert_close(one, features[:, t], rtol=0, atol=1e-10)
        if t == 3:  # the first tick that hears the new one, and no reset
            held, _ = net.step({**now, "mission": seen["mission"][:, 0]}, before)
            assert (held - one).abs().max() > 1e-3
    torch.testing.assert_close(state, final, rtol=0, atol=1e-10)


def test_what_is_exported_obeys_alike(tmp_path):
    net, seen = policy("prefix", "grid"), observations("grid")
    export_policy(net, tmp_path / "p.mcsd", rate_hz=10.0, parity_observations=60)
    streams = [Stream.load(tmp_path / "p.mcsd", engine=engine) for engine in ("onnx", "numpy")]
    states = [stream.initial_state() for stream in streams]
    for t in range(TIME):
        said = "Go to the red ball!" if t < 3 else "face the blue box"
        now = {"image": seen["image"][0, t].numpy(), "direction": int(seen["direction"][0, t]), "mission": said}
        for i, stream in enumerate(streams):
            _, states[i] = stream.step(now, states[i])
    _, final = net.scan({k: v[:1] for k, v in seen.items()}, net.initial_state())
    for state in states:
        torch.testing.assert_close(torch.from_numpy(state), final[0].detach(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("conditioning", ["attention", "both"])
def test_a_colour_with_a_shape_is_asked_for_as_the_sum_of_both(conditioning, monkeypatch):
    config = EncoderConfig(scan=("ranges", "labels"), scan_factors=(2, 2), ray_width=4, conditioning=conditioning)
    specs = {**SCAN, "mission": TextSpec(6)}
    net = Policy(specs, DiscreteSpec(3), PolicyConfig(width=16, channels=4, layers=1, encoder=config), VOCABULARY)
    asked_for = []

    def look(tokens, said, index, keys):
        asked_for.append(keys)
        return torch.zeros(len(tokens), 16)

    monkeypatch.setattr(next(m for m in net.modules() if isinstance(m, LanguageAttention)), "forward", look)
    labels = torch.tensor([[0, 1, 2, 3, 4]])  # of two colours and two shapes, and something else
    said = torch.from_numpy(VOCABULARY.encode("go to the red ball"))[None]
    net.step({"ranges": torch.ones(1, 5), "labels": labels, "mission": said}, net.initial_state())
    ((first, one, other, both, _),) = asked_for[0]
    torch.testing.assert_close(first + both, one + other)
    assert (first - both).abs().max() > 0.1


@pytest.mark.parametrize(
    ("grid", "spec", "reason"),
    [
        ("imge", MultiDiscreteSpec((11, 6, 4) * 9), "did you mean 'image'"),
        ("image", MultiDiscreteSpec((11, 6, 4) * 8), "no square of cells"),
        ("image", MultiDiscreteSpec((11, 6, 4, 6, 11, 4) * 2), "no square of cells"),
        ("image", BoxSpec((27,)), "must name a MultiDiscrete entry"),
    ],
)
def test_what_is_no_view_of_cells_is_refused_in_one_line(grid, spec, reason):
    with pytest.raises(UserError, match=reason) as error:
        Policy({"image": spec}, DiscreteSpec(2), PolicyConfig(encoder=EncoderConfig(grid=grid)))
    assert "\n" not in str(error.value)
