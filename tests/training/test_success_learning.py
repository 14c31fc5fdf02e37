"""Success prediction: what is recorded for it, learnt from it, and how it is judged."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from mcsd_agent.cli import main
from mcsd_agent.errors import UserError
from mcsd_agent.language import Vocabulary
from mcsd_agent.policy import Policy, PolicyConfig
from mcsd_agent.spaces import BoxSpec, DiscreteSpec, TextSpec
from mcsd_agent.training.batches import Batches
from mcsd_agent.training.demos import RecordConfig, load_demonstrations, record, save_demonstrations
from mcsd_agent.training.episodes import Episode, PolicyActor, run_episodes
from mcsd_agent.training.imitation import ImitationConfig, train_by_imitation
from mcsd_agent.training.success_labels import UNKNOWN, success_labels, success_loss
from mcsd_agent.training.success_scores import DoneRule, score_success

FAST = ImitationConfig(
    updates=200, tokens_per_batch=400, warmup_updates=5, learning_rate=5e-3, ema=0.9, dagger_rounds=0
)


def policy(predict: bool = True, **specs: object) -> Policy:
    torch.manual_seed(0)
    config = PolicyConfig(width=16, channels=4, layers=1, predict_success=predict)
    words = Vocabulary.from_texts(["go on"], max_words=2) if "text" in specs else None
    return Policy({"observation": BoxSpec((1,)), **specs}, DiscreteSpec(2), config, words)  # type: ignore[arg-type]


def walk(length: int, achieved: np.ndarray | None, success: bool | None = True, final: float | None = 1.0) -> Episode:
    """What is seen rises to 1 at the end; the labels are 0."""
    seen = np.linspace(0, 1, length + 1, dtype=np.float32)[:-1, None]
    labels = np.zeros(length, np.int64)
    last = None if final is None else {"observation": np.float32([[final]])}
    return Episode(
        0,
        {"observation": seen},
        labels,
        labels,
        np.zeros(length, np.float32),
        True,
        success,
        final=last,
        achieved=achieved,
    )


def reached(length: int) -> np.ndarray:
    return np.arange(length + 1) == length


class Walk(gymnasium.Env):
    """A number that rises by the action; it is a success to reach `goal`, and goes on for two ticks then."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.at, self.left, self.goal = 0, 2, 3 + (seed or 0) % 4
        return np.float32([self.goal - self.at]), {}

    def step(self, action):
        self.at += int(action)
        done = self.at >= self.goal
        self.left -= done
        return np.float32([self.goal - self.at]), 0.0, done and self.left <= 0, False, {"is_success": done}


def test_what_was_seen_after_the_last_action_is_recorded_and_kept_in_files(tmp_path):
    config = RecordConfig(env_kwargs={"parts": [1, 0], "linger_ticks": 2}, episodes=2, processes=1)
    episodes = record(config)
    save_demonstrations(episodes, tmp_path / "demos", config.env, config.env_kwargs)
    for made, read in zip(episodes, load_demonstrations(tmp_path / "demos"), strict=True):
        assert made.achieved is not None
        assert made.achieved.tolist() == [False] * (len(made) - 2) + [True] * 3
        np.testing.assert_array_equal(read.achieved, made.achieved)
        assert (len(read), len(read.observations["ranges"])) == (len(made), len(made))
        for name in ("ranges", "labels"):
            assert made.final is not None
            assert read.final is not None
            np.testing.assert_array_equal(read.final[name], made.final[name])
            assert (made.final[name] != made.observations[name][-1:]).any() or name == "labels"
        assert read.final["instruction"] == [made.instruction]
    # Files that say nothing of it repeat the last observation, which then is no news.
    untold = [dataclasses.replace(e, achieved=None) for e in episodes]
    save_demonstrations(untold, tmp_path / "old", config.env, config.env_kwargs)
    assert all(e.final is None and e.achieved is None and e.success for e in load_demonstrations(tmp_path / "old"))


@pytest.mark.parametrize("parallel", [1, 3])
def test_every_observation_of_an_episode_is_judged_the_last_included(parallel):
    judging, plain = policy(), policy(predict=False)
    plain.load_state_dict(judging.state_dict(), strict=False)
    with torch.no_grad():
        for net in (judging, plain):
            net.action_net[-1].bias[1] = 5.0  # it goes on at every tick
        judging.success_net.weight.normal_()  # type: ignore[union-attr]
    episodes = run_episodes(Walk, lambda n: PolicyActor(judging, n), range(5), parallel=parallel)
    without = run_episodes(Walk, lambda n: PolicyActor(plain, n), range(5), parallel=parallel)
    for episode, other in zip(episodes, without, strict=True):
        np.testing.assert_array_equal(episode.actions, other.actions)
        assert other.predicted is None
        assert episode.achieved is not None
        assert episode.predicted is not None
        assert episode.final is not None
        goal = 3 + episode.seed % 4
        assert episode.achieved.tolist() == [False] * goal + [True] * 2
        seen = np.concatenate([episode.observations["observation"], episode.final["observation"]])
        assert seen[:, 0].tolist() == [goal - i for i in range(goal + 2)]
        with torch.no_grad():
            features, _ = judging.scan({"observation": torch.from_numpy(seen)[None]}, judging.initial_state())
            np.testing.assert_allclose(episode.predicted, judging.success(features)[0].numpy(), atol=1e-5)


def test_labels_are_what_the_environment_said_else_what_the_end_tells():
    assert success_labels(walk(4, reached(4))).tolist() == [0, 0, 0, 0, 1]
    assert success_labels(walk(3, None, success=None)).tolist() == [UNKNOWN] * 4
    assert success_labels(walk(3, None, success=False)).tolist() == [0] * 4
    told = success_labels(walk(20, None, final=None))
    assert told.tolist() == [0] * 9 + [UNKNOWN] * 10 + [1]


def test_unknown_labels_count_for_nothing():
    logits = torch.tensor([[2.0, 50.0, -1.0]], requires_grad=True)
    loss = success_loss(logits, torch.tensor([[1.0, UNKNOWN, 0.0]]))
    expected = torch.nn.functional.binary_cross_entropy_with_logits(torch.tensor([2.0, -1.0]), torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[0, 1] == 0
    assert success_loss(logits, torch.full((1, 3), UNKNOWN)).item() == 0


def test_after_the_last_action_there_is_success_to_learn_and_nothing_to_imitate():
    episode = walk(3, reached(3))
    texts = {"text": ["go on"] * 3}
    final = {"observation": np.float32([[1.0]]), "text": ["go on"]}
    batches = Batches(policy(text=TextSpec(2)), 100, np.random.default_rng(0))
    batches.add([dataclasses.replace(episode, observations=episode.observations | texts, final=final)])
    batches.add(
        [dataclasses.replace(walk(5, None, None, None), observations=walk(5, None).observations | {"text": ["on"] * 5})]
    )
    batch = next(batches)
    short = int(batch.mask.sum(1).argmin())
    assert batch.mask[short].tolist() == [1, 1, 1, 0, 0]
    assert batch.success is not None
    assert batch.success[short].tolist() == [0, 0, 0, 1, UNKNOWN]
    assert batch.success[1 - short].tolist() == [UNKNOWN] * 5
    assert batch.observations["observation"][short, 3, 0] == 1.0
    assert batch.observations["text"][short].any(-1).tolist() == [True] * 4 + [False]


def test_a_policy_learns_to_tell_the_end():
    rng = np.random.default_rng(0)
    episodes = [walk(n, reached(n)) for n in rng.integers(4, 12, 100)]
    losses: list[float | None] = []
    net = train_by_imitation(policy(), episodes, FAST, on_progress=lambda p: losses.append(p.success_loss))
    assert losses[0] is not None
    assert losses[-1] is not None
    assert losses[-1] < losses[0] / 2
    for length in (5, 10):
        episode = walk(length, reached(length))
        seen = np.concatenate([episode.observations["observation"], episode.final["observation"]])  # type: ignore[index]
        with torch.no_grad():
            said = net.success(net.scan({"observation": torch.from_numpy(seen)[None]}, net.initial_state())[0])[0]
        assert (said >= 0.5).tolist() == reached(length).tolist()


def test_demonstrations_that_never_show_success_are_refused():
    with pytest.raises(UserError, match="no demonstration shows what is seen once its instruction is carried out"):
        train_by_imitation(policy(), [walk(4, None, success=None)], FAST)
    with pytest.raises(UserError, match="success_weight"):
        ImitationConfig(success_weight=0.0)


def judged(achieved: list[int], said: list[float]) -> Episode:
    episode = walk(len(achieved) - 1, np.array(achieved, bool), success=bool(achieved[-1]))
    return dataclasses.replace(episode, predicted=np.float32(said))


def test_scores_tell_what_was_noticed_what_was_not_and_what_was_no_success():
    rule = DoneRule(0.5, 2)
    noticed = judged([0, 0, 0, 1, 1, 1, 1], [0, 0, 0.9, 0, 0.9, 0.9, 0.9])
    too_soon = judged([0, 0, 0, 1], [0, 0.9, 0.9, 0.9])
    missed = judged([0, 0, 1, 1, 1], [0, 0, 0.9, 0, 0.9])
    failed = judged([0, 0, 0], [0.9, 0.1, 0.9])
    again = judged([0, 1, 1, 0, 0, 1, 1], [0, 0.9, 0.9, 0.9, 0, 0, 0])
    scores = score_success([noticed, too_soon, missed, failed, again], rule)
    assert scores is not None
    # An episode that ends with success is too short for two ticks: its last observation decides.
    assert (scores.noticed.successes, scores.noticed.trials) == (3, 5)
    assert scores.delays == (2, 0, 1)
    assert (scores.false_alarms.successes, scores.false_alarms.trials) == (1, 5)
    assert (scores.accuracy.successes, scores.accuracy.trials) == (3, 5)
    plain = json.loads(json.dumps(scores.to_json()))
    assert (plain["threshold"], plain["ticks"], plain["noticed"], plain["delay_ticks_median"]) == (0.5, 2, 0.6, 1.0)
    assert score_success([walk(3, reached(3))], rule) is None


def test_rule_lasts_as_long_at_any_rate():
    assert [DoneRule.at_rate(rate).ticks for rate in (None, 10.0, 50.0, 1.0)] == [5, 5, 25, 1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "task",
    [
        ["record.env=mcsd/Nav-v0", "record.env_kwargs.linger_ticks=5", "policy.head=binned"],
        ["record.env=BabyAI-GoToLocal-v0", "record.expert=babyai-bot", "policy.encoder.grid=image"],
    ],
    ids=["nav", "babyai"],
)
def test_imitation_trains_judges_and_exports_it_and_ppo_goes_on_from_there(task, tmp_path, capsys):
    config, out = tmp_path / "config.yaml", tmp_path / "run"
    config.write_text("{}\n")
    settings = [*task, "record.episodes=20", "record.processes=1", "policy.width=16", "policy.channels=2"]
    settings += ["policy.layers=1", "policy.predict_success=true", "imitation.updates=20", "imitation.dagger_rounds=0"]
    settings += ["evaluation.episodes=4"]
    assert (
        main(["imitate", str(config), "--out", str(out), "--quiet", "--json", *(f"--set={s}" for s in settings)]) == 0
    )
    words, result = capsys.readouterr().out.strip().rsplit("\n", 1)
    assert '"done" predicted: ' in words
    assert 0 <= json.loads(result)["evaluation"][0]["success_prediction"]["accuracy"] <= 1
    assert main(["eval", str(out), "--episodes", "2", "--quiet", "--json"]) == 0
    assert "success_prediction" in json.loads(capsys.readouterr().out.splitlines()[-1])
    if "Nav" in task[0]:
        further = [
            "--set",
            f"start_from={out}",
            "--set",
            "timesteps=64",
            "--set",
            "ppo.n_steps=16",
            "--set",
            "n_envs=2",
        ]
        further += ["--set", "eval_every=0", "--set", "evaluation.episodes=1", "--set", "video_episodes=0"]
        assert main(["train", "--env", "mcsd/Nav-v0", "--out", str(tmp_path / "ppo"), "--quiet", *further]) == 0
        assert main(["inspect", str(tmp_path / "ppo" / "policy.mcsd")]) == 0
        assert "predicts_success: True" in capsys.readouterr().out


def test_folder_of_old_demonstrations_is_still_learnt_from(tmp_path: Path):
    """Without success at every tick the end of an episode is what there is to learn from."""
    net = train_by_imitation(
        policy(), [walk(20, None, final=None) for _ in range(20)], dataclasses.replace(FAST, updates=5)
    )
    assert net.success_net is not None
