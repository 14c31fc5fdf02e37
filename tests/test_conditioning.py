"""Instructions and what they change: every way of conditioning, over a view of cells and over a lidar scan."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
import torch

from mcsd_agent.artifact import export_policy
from mcsd_agent.conditioning import LabelAttention, LabelMatch, every_combination
from mcsd_agent.encoders import EncoderConfig
from mcsd_agent.errors import UserError
from mcsd_agent.instruction_encoders import InstructionEncoder
from mcsd_agent.language import Vocabulary
from mcsd_agent.policy import Policy, PolicyConfig
from mcsd_agent.runtime import Stream
from mcsd_agent.runtime.onnx_file import read_model
from mcsd_agent.runtime.onnx_steady import cut
from mcsd_agent.spaces import BoxSpec, DiscreteSpec, MultiDiscreteSpec, TextSpec

VOCABULARY = Vocabulary.from_texts(["go to the red ball", "face the blue box"], max_words=6)
CELLS, TIME = 9, 7
SCAN = {"ranges": BoxSpec((5,), low=(0.0,), high=(4.0,)), "labels": MultiDiscreteSpec((14,) * 5)}
GRID = {"image": MultiDiscreteSpec((11, 6, 4) * CELLS), "direction": DiscreteSpec(4)}
WAYS = ["film", "attention", "both", "match", "prefix"]
KINDS = ["scan", "grid"]


def policy(conditioning: str, kind: str, listens: bool = False) -> Policy:
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
    sizes = PolicyConfig(width=16, channels=4, layers=1, listens=listens, encoder=config)
    return Policy(specs, DiscreteSpec(3), sizes, VOCABULARY)


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


@pytest.mark.parametrize("kind", KINDS)
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


@pytest.mark.parametrize(
    ("conditioning", "kind"), [("prefix", "grid"), ("attention", "scan"), ("match", "scan"), ("match", "grid")]
)
def test_what_is_exported_obeys_alike(conditioning, kind, tmp_path):
    net, seen = policy(conditioning, kind), observations(kind)
    export_policy(net, tmp_path / "p.mcsd", rate_hz=10.0, parity_observations=60)
    streams = [Stream.load(tmp_path / "p.mcsd", engine=engine) for engine in ("onnx", "numpy")]
    states = [stream.initial_state() for stream in streams]
    for t in range(TIME):
        said = "Go to the red ball!" if t < 3 else "face the blue box"
        now = {
            k: v[0, t].numpy().astype(str(net.observation_specs[k].dtype)) for k, v in seen.items() if k != "mission"
        }
        now["mission"] = said
        for i, stream in enumerate(streams):
            _, states[i] = stream.step(now, states[i])
    first = {k: v[:1].float() if v.is_floating_point() else v[:1] for k, v in seen.items()}
    _, final = net.scan(first, net.initial_state())
    for state in states:
        torch.testing.assert_close(torch.from_numpy(state), final[0].detach(), rtol=0, atol=1e-4)


def shares_of_labels(questions: int, answers: torch.Tensor) -> torch.Tensor:
    """How one look shares itself among four labels, two colours with two shapes: log-shares `(n, colours, shapes)`."""
    torch.manual_seed(0)
    attention = LabelAttention((1, questions, 6), factors=2, token_width=4, width=1).double()
    attention.out = torch.nn.Identity()  # type: ignore[assignment]
    colours, shapes = torch.randn(2, 2, 4, dtype=torch.float64).unbind()
    keys = torch.stack([torch.stack([colours[i // 2], shapes[i % 2]]) for i in range(4)])
    n = len(answers)
    tokens, labels = torch.eye(4, dtype=torch.float64).expand(n, 4, 4), torch.arange(4).expand(n, 4)
    with torch.no_grad():
        return attention(tokens, labels, keys, answers, None)[:, :4].log().unflatten(1, (2, 2))


@pytest.mark.parametrize("questions", [1, 4])
def test_a_colour_is_preferred_alike_with_every_shape(questions):
    answers = torch.randn(5, 1, questions, 6, dtype=torch.float64)
    shares = shares_of_labels(questions, answers)
    preference = shares[:, 0] - shares[:, 1]
    torch.testing.assert_close(preference[:, 0], preference[:, 1])
    assert preference.abs().min() > 1e-3


def test_the_label_that_both_answers_mean_is_looked_at_most():
    torch.manual_seed(0)
    attention = LabelAttention((1, 2, 4), factors=2, token_width=4, width=1).double()
    attention.out = torch.nn.Identity()  # type: ignore[assignment]
    with torch.no_grad():
        attention.query.copy_(torch.eye(4)[:, None, None].expand(4, 1, 2, 4))  # each answer asks for what is like it
    keys = torch.randn(4, 2, 4, dtype=torch.float64)
    tokens, labels = torch.eye(4, dtype=torch.float64).expand(4, 4, 4), torch.arange(4).expand(4, 4)
    with torch.no_grad():
        shares = attention(tokens, labels, keys, keys[:, None], None)
    assert torch.equal(shares.argmax(1), torch.arange(4))


def test_what_is_meant_is_a_colour_and_a_shape_each_by_itself():
    torch.manual_seed(0)
    match = LabelMatch((1, 4, 6), factors=2, token_width=4).double()
    match.out = torch.nn.Identity()  # type: ignore[assignment]
    keys = every_combination(torch.randn(2, 3, 4, dtype=torch.float64))
    with torch.no_grad():
        shares = match(keys, torch.randn(5, 1, 4, 6, dtype=torch.float64)).unflatten(1, (3, 3))
    torch.testing.assert_close(shares.sum((1, 2)), torch.ones_like(shares[:, 0, 0]))
    torch.testing.assert_close(shares, shares.sum(2, keepdim=True) * shares.sum(1, keepdim=True))
    assert shares.std(1).max() > 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_a_tick_pays_nothing_for_matching(kind, tmp_path):
    export_policy(policy("match", kind), tmp_path / "p.mcsd", rate_hz=10.0, parity_observations=60)
    with zipfile.ZipFile(tmp_path / "p.mcsd") as file:
        step = file.read("step.onnx")
    parts = cut(step, read_model(step, "step"), ["mission"], "step", 1)
    assert parts is not None
    early = {node.operator for node in read_model(step, "step").nodes} - {"GRU"}
    late = {node.operator for node in read_model(parts[1], "rest").nodes}
    assert {"Softmax", "Einsum"} & early
    assert not {"Softmax", "Einsum", "GRU"} & late


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_seen_depends_on_what_is_meant(kind):
    net = policy("match", kind).double()
    (name,) = [n for n in net.encoder.names if n in ("ranges+labels", "image")]
    entry = net.encoder.entries[f"entry_{name}"]
    seen = {k: v[:, 0] for k, v in observations(kind).items()}
    arrays = [seen["ranges"], seen["labels"], None] if kind == "scan" else [seen["image"], None]
    with torch.no_grad():
        one, other = (entry(*arrays, None, torch.randn(2, 1, 8, 32, dtype=torch.float64)) for _ in range(2))
    assert (one - other).abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_who_listens_matches_with_what_was_heard_and_so_do_several_robots(kind, tmp_path):
    net, seen = policy("match", kind, listens=True), observations(kind)
    export_policy(net, tmp_path / "p.mcsd", rate_hz=10.0, parity_observations=60)
    streams = [Stream.load(tmp_path / "p.mcsd", engine=engine, batch=2) for engine in ("onnx", "numpy", "torch")]
    states = [stream.initial_state() for stream in streams]
    dtypes = {k: str(spec.dtype) for k, spec in net.observation_specs.items()}
    for t in range(TIME):
        said = "Go to the red ball!" if t < 3 else "face the blue box"
        now = [
            {"mission": said} | {k: v[i, t].numpy().astype(dtypes[k]) for k, v in seen.items() if k != "mission"}
            for i in range(2)
        ]
        states = [stream.step(now, state)[1] for stream, state in zip(streams, states, strict=True)]
    single = {k: v.float() if v.is_floating_point() else v for k, v in seen.items()}
    _, final = net.scan(single, net.initial_state(2))
    for state in states:
        torch.testing.assert_close(torch.as_tensor(np.asarray(state)), final.detach(), rtol=0, atol=1e-4)


def test_what_is_said_of_the_colour_cannot_change_which_shape_is_meant():
    answers = torch.randn(2, 1, 4, 6, dtype=torch.float64)
    answers[1, :, 1:] = answers[0, :, 1:]  # two instructions that differ in the answer to the first question
    shares = shares_of_labels(4, answers)
    shapes, colours = shares[:, :, 0] - shares[:, :, 1], shares[:, 0] - shares[:, 1]
    torch.testing.assert_close(shapes[0], shapes[1])
    assert (colours[0] - colours[1]).abs().min() > 1e-3


def test_only_what_is_asked_for_labels_is_picked_by_questions():
    ids = torch.from_numpy(VOCABULARY.encode("go to the red ball"))[None]
    asked = {
        (way, kind): policy(way, kind).encoder.instruction(ids).answers.shape[2] > 1 for way in WAYS for kind in KINDS
    }
    by_questions = [case for case, picks in asked.items() if picks]
    assert by_questions == [("attention", "scan"), ("both", "scan"), ("match", "scan"), ("match", "grid")]


def test_who_listens_asks_with_what_was_heard():
    config = EncoderConfig(("ranges", "labels"), (2, 2), 4, instruction_width=8, conditioning="attention")
    specs = {**SCAN, "mission": TextSpec(6)}
    torch.manual_seed(0)
    sizes = PolicyConfig(width=16, channels=4, layers=1, listens=True, encoder=config)
    net, seen = Policy(specs, DiscreteSpec(3), sizes, VOCABULARY).double(), observations("scan")
    features, final = net.scan(seen, net.initial_state(2))
    state = net.initial_state(2)
    for t in range(TIME):
        one, state = net.step({k: v[:, t] for k, v in seen.items()}, state)
        torch.testing.assert_close(one, features[:, t], rtol=0, atol=1e-10)
    torch.testing.assert_close(state, final, rtol=0, atol=1e-10)


def test_more_factors_than_questions_are_refused_in_one_line():
    with pytest.raises(UserError, match="have 9 factors ") as error:
        LabelAttention((1, 8, 6), factors=9, token_width=4, width=1)
    assert "\n" not in str(error.value)


def test_questions_are_answered_by_the_words_alone():
    torch.manual_seed(0)
    encoder = InstructionEncoder(VOCABULARY, word_width=8, instruction_width=16, questions=4)
    ids = torch.from_numpy(np.stack([VOCABULARY.encode(text) for text in ("red", "", "go to the red ball")]))
    answers = encoder(ids).answers[:, 0]
    words = encoder.words(ids)
    torch.testing.assert_close(answers[0], words[0, -1].expand(4, 8))  # one word is every answer
    assert not answers[1].any()
    said = words[2][ids[2] != 0]
    shares = torch.linalg.lstsq(
        said.T, answers[2].T
    ).solution  # five words of eight numbers: no other shares give these
    torch.testing.assert_close(said.T @ shares, answers[2].T)
    torch.testing.assert_close(shares.sum(0), torch.ones(4))
    assert shares.min() > 0


def test_labels_that_are_no_combination_are_told_from_each_other_and_from_those_that_are():
    config = EncoderConfig(scan=("ranges", "labels"), scan_factors=(2, 2), ray_width=4, conditioning="attention")
    specs = {**SCAN, "mission": TextSpec(6)}
    torch.manual_seed(0)
    net = Policy(specs, DiscreteSpec(3), PolicyConfig(width=16, channels=4, layers=1, encoder=config), VOCABULARY)
    said = torch.from_numpy(VOCABULARY.encode("go to the red ball"))[None].expand(14, 6)
    labels = torch.arange(14)[:, None].expand(14, 5)
    features, _ = net.step({"ranges": torch.ones(14, 5), "labels": labels, "mission": said}, net.initial_state(14))
    assert torch.pdist(features).min() > 1e-3


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
