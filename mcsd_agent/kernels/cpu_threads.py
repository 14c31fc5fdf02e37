"""Split a batch over as many threads as torch uses; the compiled kernels release the interpreter's lock."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

#: Numbers below which a second thread costs more than it brings.
_WORTH_A_THREAD = 1 << 17


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="mcsd-kernel")


def over_batch(function: Callable[[slice, int], None], batch: int, numbers: int) -> None:
    """Call `function(rows, piece)` for slices that cover `batch`; `numbers` is how many the work goes through."""
    pieces = pieces_for(batch, numbers)
    if pieces == 1:
        function(slice(0, batch), 0)
        return
    bounds = [batch * i // pieces for i in range(pieces + 1)]
    tasks = [_pool(pieces).submit(function, slice(bounds[i], bounds[i + 1]), i) for i in range(pieces)]
    for task in tasks:
        task.result()


def pieces_for(batch: int, numbers: int) -> int:
    """Into how many pieces `over_batch` splits."""
    return max(1, min(torch.get_num_threads(), batch, numbers // _WORTH_A_THREAD))


def pieces_at_most(batch: int) -> int:
    """How many pieces `over_batch` can make: the number of buffers for sums over the batch."""
    return max(1, min(torch.get_num_threads(), batch))
