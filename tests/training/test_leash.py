"""Fine-tuning stays close to the policy that it began with, and learns values before it moves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Independent, Normal, kl_divergence

from mcsd_agent.artifact import export_policy
from mcsd_agent.errors import UserError
from mcsd_agent.heads import make_head
from mcsd_agent.language import Vocabulary
from mcsd_agent.policy import Policy, PolicyConfig
from mcsd_agent.runtime.sentences import Sentences
from mcsd_agent.spaces import BoxSpec, DiscreteSpec, MultiDiscreteSpec, spec_from_space
from mcsd_agent.strict import apply_overrides, build
from mcsd_agent.training.config import TrainConfig
from mcsd_agent.training.environments import make_vec
from mcsd_agent.training.fine_tuning import start_from, with_policy_of
from mcsd_agent.training.instructions import policy_specs
from mcsd_agent.training.learner import build_learner
from mcsd_agent.training.run_folder import RunFolder
from mcsd_agent.training.sequence_ppo import SequencePPO
from mcsd_agent.training.stored_policy import load_stored_policy
from mcsd_agent.training.training_run import learn

CARDS = "mcsd/RepeatPreviousEasy-v0"  # what it shows is discrete: no running scale moves


def model(**settings: object) -> SequencePPO:
    defaults = {"n_steps": 26, "n_epochs": 2, "seed": 3, "device": "cpu"}
    env = make_vec(CARDS, n_envs=4, seed=3)
    return SequencePPO("MlpPolicy", env, policy_kwargs={"width": 16, "layers": 1}, **{**defaults, **settings})


def other_policy(of: SequencePPO) -> Policy:
    """One that decides otherwise."""
    policy = Policy(of.policy.net.observation_specs, of.policy.net.action_spec, of.policy.net.config)
    with torch.no_grad():
        policy.action_net[-1].weight.normal_()
    return policy


def test_divergence_of_choices() -> None:
    torch.manual_seed(0)
    choices = make_head(MultiDiscreteSpec((3, 2, 5)), "gaussian", (9,))
    ours, theirs = torch.randn(2, 4, 6, 10)
    wanted = sum(
        kl_divergence(Categorical(logits=a), Categorical(logits=b))
        for a, b in zip(ours.split((3, 2, 5), -1), theirs.split((3, 2, 5), -1), strict=True)
    )
    torch.testing.assert_close(choices.divergence(ours, theirs), wanted)
    one = make_head(DiscreteSpec(10), "gaussian", (9,))
    torch.testing.assert_close(
        one.divergence(ours, theirs), kl_divergence(Categorical(logits=ours), Categorical(logits=theirs))
    )


@pytest.mark.parametrize("name", ["gaussian", "squashed", "binned"])
def test_divergence_of_continuous_actions(name: str) -> None:
    torch.manual_seed(0)
    head = make_head(BoxSpec((2,), low=(-1.0, 0.0), high=(1.0, 3.0)), name, (5, 9))
    ours, theirs = (torch.randn(4, 6, head.size, requires_grad=wanted) for wanted in (True, False))
    found = head.divergence(ours, theirs)
    assert found.shape == (4, 6)
    torch.testing.assert_close(head.divergence(ours, ours), torch.zeros(4, 6))
    if name == "binned":
        rows = [logits.unflatten(-1, (2, 9)) for logits in (ours, theirs)]
        wanted = sum(
            kl_divergence(*(Categorical(logits=row[..., i, :n]) for row in rows)) for i, n in enumerate((5, 9))
        )
    else:
        gaussians = (
            [head._gaussian(p) for p in (ours, theirs)]
            if name == "squashed"
            else [(p, head.log_std.expand_as(p)) for p in (ours, theirs)]
        )
        wanted = kl_divergence(*(Independent(Normal(mean, log_std.exp()), 1) for mean, log_std in gaussians))
    torch.testing.assert_close(found, wanted)
    found.sum().backward()
    assert torch.isfinite(ours.grad).all()


def test_an_action_that_a_mask_forbids_adds_nothing() -> None:
    head = make_head(DiscreteSpec(3), "gaussian", (9,))
    mask = torch.tensor([True, True, False])
    ours = torch.tensor([0.0, 1.0, 5.0], requires_grad=True)
    found = head.divergence(head.masked(ours, mask), head.masked(torch.tensor([1.0, 1.0, -7.0]), mask))
    allowed = [Categorical(logits=torch.tensor(p)) for p in ([0.0, 1.0], [1.0, 1.0])]
    torch.testing.assert_close(found, kl_divergence(*allowed))
    found.backward()
    assert torch.isfinite(ours.grad).all()


def test_what_is_held_to_has_a_memory_of_its_own() -> None:
    # Episodes are longer than a rollout: what the leash says of the second depends on what it saw in the first.
    learner = model(leash_coef=1.0, learning_rate=1e-2, n_steps=16)
    held = other_policy(learner)
    learner.hold_to(held)
    entries, starts, references = [], [], []

    collect = learner.collect_rollouts

    def collecting(*arguments: object, **more: object) -> bool:
        done = collect(*arguments, **more)
        buffer = learner.rollout_buffer
        entries.append({k: v.copy() for k, v in buffer.entries.items()})
        starts.append(buffer.episode_starts.copy())
        references.append(buffer.reference.copy())
        return done

    learner.collect_rollouts = collecting  # type: ignore[method-assign]
    learner.learn(3 * 16 * 4)
    seen = {k: torch.from_numpy(np.concatenate([e[k] for e in entries])).transpose(0, 1) for k in entries[0]}
    begins = torch.from_numpy(np.concatenate(starts)).bool().T.contiguous()
    with torch.no_grad():
        features, _ = held.scan(seen, held.initial_state(4), begins)
        wanted = held.action_net(features).transpose(0, 1)
    assert not begins[:, 16].all()
    torch.testing.assert_close(torch.from_numpy(np.concatenate(references)), wanted, rtol=1e-4, atol=1e-5)


def test_values_are_learned_before_anything_else_moves() -> None:
    learner = model(value_warmup=2 * 26 * 4)
    before = {k: v.clone() for k, v in learner.policy.state_dict().items()}
    learner.learn(2 * 26 * 4)
    moved = {k for k, v in learner.policy.state_dict().items() if not torch.equal(v, before[k])}
    assert moved
    assert all(k.startswith(("net.value_net.", "value_scale.")) for k in moved)
    learner.learn(26 * 4, reset_num_timesteps=False)
    assert not torch.equal(learner.policy.net.action_net[0].weight, before["net.action_net.0.weight"])


def test_a_short_leash_keeps_the_policy_where_it_was() -> None:
    distances = []
    for coefficient in (0.0, 10.0):
        learner = model(leash_coef=coefficient, n_epochs=8, learning_rate=3e-3)
        learner.hold_to(learner.policy.net)
        learner.learn(4 * 26 * 4)
        assert learner.leash is not None
        buffer = learner.rollout_buffer
        learner.leash.forget()
        theirs = learner.leash.follow(buffer.entries, buffer.episode_starts)
        learner.hold_to(learner.policy.net)
        ours = learner.leash.follow(buffer.entries, buffer.episode_starts)
        head = learner.policy.net.head
        distances.append(head.divergence(torch.from_numpy(ours), torch.from_numpy(theirs)).mean().item())
    assert distances[1] < 0.2 * distances[0]


def test_a_leash_needs_something_to_hold_to() -> None:
    with pytest.raises(UserError, match="call hold_to"):
        model(leash_coef=0.1).learn(104)
    with pytest.raises(UserError, match="leash_coef=-1"):
        model(leash_coef=-1.0)
    with pytest.raises(UserError, match=r"ppo.leash_coef=0.1 needs start_from"):
        build(TrainConfig, {"env": CARDS, "ppo": {"leash_coef": 0.1}})


def fine_tuning(artifact: Path, *overrides: str) -> TrainConfig:
    settings = {
        "env": "mcsd/CartPoleNoVel-v1",
        "start_from": str(artifact),
        "n_envs": 4,
        "timesteps": 768,
        "rate_hz": 50,
        "policy": {"share_backbone": False},
        "ppo": {"n_steps": 32, "n_epochs": 2, "leash_coef": 0.1, "value_warmup": 128},
        "checkpoint_every": 256,
        "eval_every": 256,
        "eval_episodes": 2,
        "video_episodes": 0,
    }
    return with_policy_of(build(TrainConfig, apply_overrides(settings, overrides)))


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("leash") / "start.mcsd"
    learner = SequencePPO("MlpPolicy", make_vec("mcsd/CartPoleNoVel-v1", n_envs=2), policy_kwargs={"width": 16})
    export_policy(learner.policy.net, path, rate_hz=50.0)
    return path


def test_an_own_critic_begins_with_the_policys_memory(artifact: Path) -> None:
    learner = build_learner(fine_tuning(artifact))
    start_from(learner, artifact)
    assert learner.policy.critic is not None
    for name, value in learner.policy.critic.state_dict().items():
        assert torch.equal(value, learner.policy.net.state_dict()[name]), name
    assert learner.leash is not None


def test_fine_tuning_goes_on_exactly_where_it_was_interrupted(artifact: Path, tmp_path: Path) -> None:
    config = fine_tuning(artifact)
    report = lambda *_: None  # noqa: E731
    whole = RunFolder.create(tmp_path / "whole", "train", config)
    learn(config, whole, report)
    parts = RunFolder.create(tmp_path / "parts", "train", config)
    learn(config, parts, report, on_evaluation=lambda steps, _: steps < 512)
    artifact.rename(tmp_path / "gone.mcsd")  # what is held to is in the checkpoint
    learn(config, parts, report, resume=True)
    first, second = (run.load_checkpoint()["learner"] for run in (whole, parts))
    for held in ((c["policy"] for c in (first, second)), (c["leash"]["policy"] for c in (first, second))):
        one, other = held
        assert all(torch.equal(one[k], other[k]) for k in one)
    assert torch.equal(first["leash"]["state"], second["leash"]["state"])
    assert not torch.equal(first["policy"]["net.first"], first["leash"]["policy"]["first"])


@pytest.mark.parametrize("kind", ["words", pytest.param("sentence", marks=pytest.mark.thorough)])
def test_text_is_read_as_the_policy_reads_it(kind: str, tmp_path: Path) -> None:
    # It was cloned from demonstrations, whose words are not those that the environment's first episodes say.
    said = ["go to the red ball", "face the blue box", "then stop"]
    encoder = Vocabulary.from_texts(said, 24) if kind == "words" else Sentences.from_texts(said)
    probe = make_vec("mcsd/Nav-v0", n_envs=1, encoder=encoder)
    specs, _ = policy_specs(probe.observation_space)
    config = build(PolicyConfig, {"width": 16, "layers": 1, "encoder": {"instruction": kind}})
    policy = Policy(specs, spec_from_space(probe.action_space), config, encoder)
    probe.close()
    start = tmp_path / "start.mcsd"
    export_policy(policy, start, rate_hz=10.0, metadata={"env": "mcsd/Nav-v0"}, parity_observations=20)
    settings = {
        "env": "mcsd/Nav-v0",
        "start_from": str(start),
        "n_envs": 2,
        "timesteps": 64,
        "ppo": {"n_steps": 16, "n_epochs": 1, "leash_coef": 0.1},
        "checkpoint_every": 32,
        "eval_every": 0,
    }
    config = with_policy_of(build(TrainConfig, settings))
    run = RunFolder.create(tmp_path / "run", "train", config)
    model = learn(config, run, lambda *_: None)
    assert model.sequence_policy.vocabulary == policy.vocabulary
    assert load_stored_policy(run.path).policy.vocabulary == policy.vocabulary  # of a run that has no artifact yet
    longer = replace(config, timesteps=96)
    learn(longer, run, lambda *_: None, resume=True)
    assert run.load_checkpoint()["timesteps"] == 96
    assert run.read_json("environment.json")["restorable"]


def test_a_policy_with_a_sentence_encoder_is_trained_from_scratch() -> None:
    settings = {"env": "mcsd/Nav-v0", "n_envs": 2, "policy": {"width": 16, "encoder": {"instruction": "sentence"}}}
    learner = build_learner(build(TrainConfig, {**settings, "ppo": {"n_steps": 16, "n_epochs": 1}}))
    learner.learn(32)
    assert isinstance(learner.sequence_policy.vocabulary, Sentences)
