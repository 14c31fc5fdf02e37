"""Wordings kept from training, corrections and negations, and which objects are named."""

from __future__ import annotations

import re
from itertools import product

import numpy as np
import pytest

from envs import nav_corrections, nav_phrasings, nav_spontaneous, nav_varied
from envs.nav import NavEnv
from envs.nav_corrections import WORDS, correct, negate, understand
from envs.nav_expert import NavExpert
from envs.nav_language import COLORS, SHAPES, Goal, Task, corpus, object_goal, parse
from envs.nav_phrasings import HELD_OUT, HELD_OUT_LABELS, TRAINED, WORDINGS, say
from mcsd_agent.cli import main
from mcsd_agent.language import split_words
from mcsd_agent.runtime.parts import split_parts

OBJECTS = [Goal("go", c, s) for c, s in product(COLORS, SHAPES)]
KNOWN_WORDS = {*corpus(), *WORDS}


def words_of(text: str) -> set[str]:
    return set(text.lower().replace(",", " ").replace(":", " ").split())


@pytest.mark.parametrize("wording", [w for w in WORDINGS if w not in (*TRAINED, "spontaneous")])
def test_held_out_wordings_are_never_those_of_training(wording):
    rng = np.random.default_rng(0)
    for goal in [*OBJECTS, Goal("face", "red", "ball"), Goal("stop")]:
        for _ in range(10):
            with pytest.raises(ValueError, match="instruction"):
                parse(say(rng, Task((goal,)), wording))


def test_held_out_wordings_still_name_the_colours_in_order():
    rng = np.random.default_rng(1)
    for wording, first, second in product(("synonyms", "polite", "order"), OBJECTS[:6], OBJECTS[6:]):
        text = say(rng, Task((first, second)), wording)
        assert text.index(first.color) < text.rindex(second.color), text


def test_the_second_list_shares_no_verb_and_no_turn_with_the_first():
    rng = np.random.default_rng(4)
    for goal in (Goal("go", "red", "ball"), Goal("face", "red", "box"), Goal("stop")):
        first, second = (
            {say(rng, Task((goal,)), wording).partition(" the red")[0] for _ in range(300)}
            for wording in ("synonyms", "unheard")
        )
        assert not first & second
        assert len(second) > 5 * 3  # verbs and turns around them


def test_varied_wordings_have_nothing_of_what_is_kept_from_training():
    tables = (getattr(nav_phrasings, n) for n in ("_VERBS", "_UNHEARD_VERBS", "_SHAPES", "_UNHEARD_SHAPES"))
    kept = {
        *(text for table in tables for row in table.values() for text in row),
        *nav_phrasings._CONNECTIVES,
        *(x.strip(" ,") for t in (*nav_phrasings._POLITE, *nav_phrasings._UNHEARD_TURNS) for x in t.split("{}")),
        *(x.strip(" ,:") for row in nav_phrasings._ORDER.values() for t in row for x in t.split("{}")),
        *nav_corrections._HELD_OUT_STARTS,
    } - {*SHAPES, "", "the", "to the", "at the", "please go", "please look"}
    rng, said = np.random.default_rng(5), []
    for first, second in product(OBJECTS, [Goal("face", "red", "ball"), Goal("face", "blue", "box"), Goal("stop")]):
        said += [say(rng, Task((first, second)), "varied").lower() for _ in range(60)]
        said += [correct(rng, first, OBJECTS[0], "varied") for _ in range(3) if first != OBJECTS[0]]
    for phrase in kept:
        assert not [text for text in said if f" {phrase.lower()} " in f" {text.replace(',', ' ')} "], phrase


# Of the spontaneous ones some "…, before you …" are not cut: what stands behind may be what must not happen.
@pytest.mark.parametrize(("wording", "share"), [("varied", 1.0), ("spontaneous", 0.9)])
def test_many_wordings_name_what_is_meant_in_the_order_that_is_read(wording, share):
    rng, texts, cut = np.random.default_rng(6), set(), []
    for first, second in product(OBJECTS[:6], OBJECTS[6:]):
        goals = (first, Goal("face", second.color, second.shape))
        for _ in range(10):
            text = say(rng, Task(goals), wording)
            texts.add(text)
            parts = split_parts(text)
            cut.append(len(parts) == 2 and first.color in parts[0] and second.color in parts[1])
    assert len(texts) > 350
    assert np.mean(cut) >= share


def test_no_wording_has_two_meanings():
    tables = [
        (nav_varied.VERBS, nav_spontaneous._VERBS, nav_phrasings._VERBS, nav_phrasings._UNHEARD_VERBS),
        (nav_varied.NOUNS, nav_spontaneous._NOUNS, nav_phrasings._SHAPES, nav_phrasings._UNHEARD_SHAPES),
    ]
    for of_one_kind in tables:
        meant: dict[str, str] = {}
        for meaning, wording in [(m, w) for table in of_one_kind for m, row in table.items() for w in row]:
            assert meant.setdefault(wording.replace("{}", "").strip(), meaning) == meaning, wording


@pytest.mark.parametrize("wording", ["varied", "spontaneous"])
def test_three_parts_and_stops_are_said_as_they_are_meant(wording):
    rng = np.random.default_rng(8)
    goals = (Goal("go", "red", "ball"), Goal("face", "blue", "box"), Goal("go", "green", "cone"))
    for _ in range(50):
        text = say(rng, Task(goals), wording)
        assert text.index("red") < text.index("blue") < text.index("green"), text
        stop = say(rng, Task((Goal("stop"),)), wording)
        assert not any(colour in stop for colour in COLORS)


def test_no_turn_is_put_around_what_is_no_imperative():
    rng = np.random.default_rng(10)
    texts = {say(rng, Task((Goal("stop"),)), "varied") for _ in range(2000)}
    assert len(texts) > 300
    assert {t for t in texts if "far enough" in t or "all stop" in t} == {"that's far enough", "all stop"}


def test_what_is_not_meant_is_named_beside_what_is():
    rng = np.random.default_rng(9)
    for _ in range(60):
        text = negate(rng, Goal("face", "red", "ball"), Goal("face", "blue", "box"), "varied")
        assert all(len(re.findall(rf"\b{colour}\b", text)) == 1 for colour in ("red", "blue")), text


@pytest.mark.parametrize("parts", [(1.0, 0.0, 0.0), (0.0, 0.0, 1.0)])
@pytest.mark.parametrize("wording", TRAINED)
def test_no_trained_instruction_is_longer_than_the_environment_says(wording, parts):
    env = NavEnv(wording=wording, parts=parts, negation_probability=1.0)
    lengths = [len(split_words(env.reset(seed=seed)[0]["instruction"])) for seed in range(300)]
    assert max(lengths) <= env.instruction_max_words


def test_what_is_kept_for_the_evaluation_is_not_recorded(tmp_path, capsys):
    record = ["record", "mcsd/Nav-v0", "--episodes", "4", "--quiet", "--out", str(tmp_path / "demos")]
    assert main([*record, "--set", "wording=unheard"]) == 2
    error = capsys.readouterr().err
    assert "wording='unheard' is kept for the evaluation; set it to trained or varied" in error
    assert len(error.strip().splitlines()) == 1
    with pytest.raises(ValueError, match="instruction"):
        NavExpert().act(NavEnv(wording="unheard", parts=(0, 1), verbs={"go": 1}).reset(seed=0)[0])


def test_a_policy_that_learns_words_knows_all_that_varied_wordings_have():
    env = NavEnv(wording="varied", correction_probability=0.5, negation_probability=0.5, parts=(0.6, 0.4))
    known = set(env.instruction_words)
    for seed in range(150):
        env.reset(seed=seed)
        text = env.step(np.zeros(2))[0]["instruction"]
        assert set(split_words(text)) <= known, text
    rng = np.random.default_rng(7)
    for before, after in product(OBJECTS[:3], OBJECTS[3:]):
        assert set(split_words(correct(rng, before, after, "varied"))) <= known


def test_a_typo_changes_one_word_of_a_part():
    rng = np.random.default_rng(2)
    for goal in OBJECTS * 5:
        assert len(words_of(say(rng, Task((goal,)), "typos")) - KNOWN_WORDS) == 1


def test_every_colour_and_shape_of_what_is_kept_occurs_with_another_one():
    trained = set(product(COLORS, SHAPES)) - set(HELD_OUT)
    assert {c for c, _ in HELD_OUT} <= {c for c, _ in trained}
    assert {s for _, s in HELD_OUT} <= {s for _, s in trained}


@pytest.mark.parametrize("before", [*OBJECTS[:4], Goal("face", "blue", "cone")])
def test_a_correction_means_the_other_object_to_who_remembers(before):
    rng = np.random.default_rng(3)
    for label in range(12):
        after = object_goal(before.verb, label)
        if after != before:
            text = correct(rng, before, after)
            assert understand(text, Task((before,))) == Task((after,))
            assert words_of(text) <= KNOWN_WORDS
            with pytest.raises(ValueError, match="instruction"):
                understand(text)


def test_what_is_not_meant_is_left_out():
    rng = np.random.default_rng(4)
    for goal, other in product(OBJECTS, OBJECTS):
        if goal != other:
            assert understand(negate(rng, goal, other)) == Task((goal,))


@pytest.mark.parametrize("named", ["trained", "held_out"])
def test_only_the_objects_that_may_be_named_are(named):
    env = NavEnv(named=named, parts=(0.4, 0.4, 0.2), correction_probability=0.5, verbs={"go": 1})
    for seed in range(40):
        env.reset(seed=seed)
        for _ in range(45):
            goals = env._progress.task.goals
            assert all((goal.label in HELD_OUT_LABELS) == (named == "held_out") for goal in goals)
            env.step(np.zeros(2))


def test_a_correction_comes_on_the_way_and_its_object_is_there():
    env = NavEnv(parts=(1, 0), verbs={"go": 1}, correction_probability=1.0)
    for seed in range(10):
        first = env.reset(seed=seed)[1]["instruction"]
        said = [env.step(np.zeros(2))[4]["instruction"] for _ in range(45)]
        later = [text for text in said if text != first]
        assert later
        goal = understand(first).goals[0]
        assert env._progress.task == understand(later[0], Task((goal,)))
        assert env._progress.goal.label in env._objects


def test_the_environment_negates_and_corrects_in_many_wordings_too():
    env = NavEnv(wording="varied", parts=(1, 0), verbs={"go": 1}, negation_probability=1.0, correction_probability=1.0)
    negated, corrected = [], []
    for seed in range(30):
        negated.append(env.reset(seed=seed)[0]["instruction"])
        said = [env.step(np.zeros(2))[0]["instruction"] for _ in range(45)]
        corrected += [text for text in dict.fromkeys(said) if text != negated[-1]]
    assert 5 < sum(text.startswith(("go to", "not the")) for text in negated) < 25  # half as in the grammar
    assert 5 < sum(text.startswith(("no,", "no I mean", "not that one")) for text in corrected) < 25


@pytest.mark.parametrize(("wording", "is_told"), [("trained", False), ("varied", True)])
def test_the_expert_carries_out_what_it_reads_and_what_it_is_told_that_words_mean(wording, is_told):
    env = NavEnv(wording=wording, parts=(0.6, 0.0, 0.4), correction_probability=0.5, negation_probability=0.3)
    expert, successes = NavExpert(env if is_told else None), 0
    for seed in range(12):
        observation, info = env.reset(seed=seed)
        expert.reset()
        done = False
        while not done:
            observation, _, terminated, truncated, info = env.step(expert.act(observation))
            done = terminated or truncated
        successes += info["is_success"]
    assert successes >= 11


def test_words_of_corrections_are_listed_where_there_are_corrections():
    assert "mean" not in NavEnv().instruction_words
    assert set(WORDS) <= set(NavEnv(correction_probability=0.1).instruction_words)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"wording": "rude"}, "wording='rude'"),
        ({"named": "some"}, "named='some'"),
        ({"correction_probability": 2}, "correction_probability=2"),
        ({"negation_probability": -1}, "negation_probability=-1"),
        ({"parts": (0.2, 0.2, 0.2)}, "parts="),
    ],
)
def test_impossible_options_are_named(config, named):
    with pytest.raises(ValueError, match=named):
        NavEnv(**config)
