"""What success prediction learns from: at which observations of an episode the instruction had been carried out."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from mcsd_agent.training.episodes import Episode

#: Of a label: nobody knows.
UNKNOWN = -1.0
#: Where only the end of an episode was judged, so many observations before its last one may show success already.
_UNSURE = 10


def success_labels(episode: Episode) -> np.ndarray:
    """1 (carried out), 0 or `UNKNOWN` for each observation of an episode, the final one included where there is one.

    Where the environment did not say so tick by tick, the last observation of an episode that succeeded counts as
    success, those shortly before as unknown, and all of one that failed as none.
    """
    if episode.achieved is not None and episode.final is not None:
        return episode.achieved.astype(np.float32)
    count = len(episode) + (episode.final is not None)
    if episode.success is None:
        return np.full(count, UNKNOWN, np.float32)
    labels = np.zeros(count, np.float32)
    if episode.success:
        labels[-1 - _UNSURE : -1] = UNKNOWN
        labels[-1] = 1.0
    return labels


def success_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean binary cross-entropy over the known ones of `labels`, shaped as `logits`."""
    known = (labels != UNKNOWN).to(logits.dtype)
    per_tick = F.binary_cross_entropy_with_logits(logits, labels.clamp_min(0.0), reduction="none")
    return (per_tick * known).sum() / known.sum().clamp_min(1.0)
