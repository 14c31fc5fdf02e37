"""What a policy says it does not understand, and that the robot holds meanwhile."""

from __future__ import annotations

import pytest

from mcsd_agent.language import Vocabulary
from mcsd_agent.runtime.sentences import Sentences
from mcsd_agent.runtime.understanding import Understanding

WORDS = Vocabulary.from_texts(["go to the red ball, then the blue box"], max_words=12)
KNOWN = ("go to the red ball", "Go to the BLUE box, then the red ball!")
#: Nothing that any policy could be trained on.
STRANGE = ("go " * 4000, "去红球那里", "\x00\x07\x1b", "?!", "\ud800", "مرحبا بالعالم")


@pytest.fixture(scope="module")
def by_sentence() -> Understanding:
    colours, shapes = ("red", "green", "blue"), ("ball", "box", "cone")
    texts = [f"{verb} the {c} {s}" for verb in ("go to", "face") for c in colours for s in shapes]
    return Understanding(Sentences.from_texts(texts))


@pytest.mark.parametrize("text", KNOWN)
def test_what_was_trained_is_understood(text, by_sentence):
    assert Understanding(WORDS).objection(text) == ""
    assert by_sentence.objection(text) == ""


@pytest.mark.parametrize("text", STRANGE, ids=ascii)
def test_what_nobody_could_mean_is_not_and_the_reason_is_one_plain_line(text, by_sentence):
    for judge in (Understanding(WORDS, max_unknown_share=0.5), by_sentence):
        objection = judge.objection(text)
        assert objection
        assert len(objection) < 200
        assert objection.encode()  # no half characters
        assert objection.isprintable()


def test_silence_is_no_instruction(by_sentence):
    assert Understanding(WORDS).objection("") == by_sentence.objection("") == ""


def test_unknown_words_are_named_beyond_the_share():
    text = "go to the purple ball"
    assert "'purple'" in Understanding(WORDS).objection(text)
    assert Understanding(WORDS, max_unknown_share=0.2).objection(text) == ""


def test_a_part_far_from_training_is_named(by_sentence):
    assert "'make me a sandwich'" in by_sentence.objection("go to the red ball, then make me a sandwich")
    assert by_sentence.objection("would you please go to the green cone") == ""
    assert "5 parts" in by_sentence.objection(", then ".join(["face the red ball"] * 5))


def test_more_word_pieces_than_are_read_are_an_objection(by_sentence):
    objection = Understanding(by_sentence._encoder, max_distance=2.0).objection(
        "go to the " + "very " * 50 + "red ball"
    )
    assert "55 word pieces; the policy reads 48" in objection


def test_the_limit_can_be_set(by_sentence):
    sentences = by_sentence._encoder
    assert Understanding(sentences, max_distance=2.0).objection("make me a sandwich") == ""


def test_an_objection_lasts_through_silence_until_something_else_is_said():
    judge = Understanding(WORDS)
    assert judge.hear("go to the purple ball")
    assert judge.hear("")
    assert judge.hear("go to the red ball") == ""
    assert judge.hear("") == ""
    judge.hear("dance")
    judge.forget()
    assert judge.hear("") == ""
