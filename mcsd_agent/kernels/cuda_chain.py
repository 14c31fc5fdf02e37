"""One pass over a recurrence that is cut in chunks of time: how the programs of a launch hand the state on.

Every program owns one chunk of one sequence and some features. What a chunk does to a state is a map
`h -> a h + b`, known before the state is. So a program

1. takes a ticket; tickets count chunks in the order of the recurrence, so whatever it waits for belongs to a
   program that already runs: no wait depends on how many programs fit on the device,
2. publishes its map, if `REACH > 0`,
3. waits for the state `REACH + 1` chunks back and for the maps in between, which gives its own first state,
4. publishes its last state.

The critical path through a sequence is thus one wait per `REACH + 1` chunks. A published number is its own
flag: the words are filled with `EMPTY` before the launch, which no published number equals, and a reader
polls until it sees another one. No fence is needed, because nothing but the word itself is read.

Maps compose left to right, and a weight of exactly 0 forgets the past whatever it holds, inf and nan too.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

#: Arguments by whose value no kernel is compiled anew.
SIZES = ("batch", "time", "places", "marks", "groups", "plane")

#: The bits of a NaN, as an int32.
EMPTY = -1
_EMPTY = tl.constexpr(EMPTY)
_ONE = tl.constexpr(0x3F800000)  # the bits of 1.0
_NAN = tl.constexpr(0x7FFFFFFF)  # the bits that a NaN with the bits of EMPTY is published with


def empty_words(*shape: int, device: torch.device) -> Tensor:
    """Words that nobody has published yet."""
    return torch.full(shape, EMPTY, dtype=torch.int32, device=device)


@triton.jit
def take_ticket(tickets, groups, batch):
    """(group of features, sequence, place in the order of the recurrence) that nobody else takes."""
    ticket = tl.atomic_add(tickets, 1, sem="relaxed") + 1  # the counter starts at EMPTY
    return ticket % groups, (ticket // groups) % batch, ticket // (groups * batch)


@triton.jit
def publish(words, value, mask):
    """Make the rows of `value` that `mask` selects known under `words`, (1, features)."""
    bits = value.to(tl.int32, bitcast=True)
    bits = tl.where(bits == _EMPTY, _NAN, bits)
    tl.atomic_xchg(tl.broadcast_to(words, bits.shape), bits, mask=mask, sem="relaxed")


@triton.jit
def wait(words, mask, default):
    """The published numbers, as soon as all are there; the bits of `default` where masked."""
    missing = 1
    while missing != 0:
        bits = tl.load(words, mask=mask, other=default, volatile=True)
        missing = tl.max(tl.max((bits == _EMPTY).to(tl.int32), 1), 0)
    # Again: a thread that holds a copy of an element may have read it before another one did.
    return tl.load(words, mask=mask, other=default, volatile=True).to(tl.float32, bitcast=True)


@triton.jit
def wait_pair(first, second, mask, default):
    """Two blocks of published numbers in the time of one; `default` belongs to the first, that of the second is 0."""
    missing = 1
    while missing != 0:
        p = tl.load(first, mask=mask, other=default, volatile=True)
        q = tl.load(second, mask=mask, other=0, volatile=True)
        missing = tl.max(tl.max(((p == _EMPTY) | (q == _EMPTY)).to(tl.int32), 1), 0)
    a = tl.load(first, mask=mask, other=default, volatile=True)
    b = tl.load(second, mask=mask, other=0, volatile=True)
    return a.to(tl.float32, bitcast=True), b.to(tl.float32, bitcast=True)


@triton.jit
def then(a, b, a_next, b_next):
    """The map of one stretch followed by that of the next."""
    cut = a_next == 0.0
    return tl.where(cut, 0.0, a * a_next), tl.where(cut, b_next, a_next * b + b_next)


@triton.jit
def after(a, b, h):
    """The state after a stretch that began with `h`."""
    return tl.where(a == 0.0, b, a * h + b)


@triton.jit
def then_complex(a_re, a_im, b_re, b_im, next_re, next_im, add_re, add_im):
    """As `then`, for real and imaginary parts."""
    cut = (next_re == 0.0) & (next_im == 0.0)
    return (
        tl.where(cut, 0.0, a_re * next_re - a_im * next_im),
        tl.where(cut, 0.0, a_re * next_im + a_im * next_re),
        tl.where(cut, add_re, next_re * b_re - next_im * b_im + add_re),
        tl.where(cut, add_im, next_re * b_im + next_im * b_re + add_im),
    )


@triton.jit
def after_complex(a_re, a_im, b_re, b_im, h_re, h_im):
    """As `after`, for real and imaginary parts."""
    cut = (a_re == 0.0) & (a_im == 0.0)
    return (
        tl.where(cut, b_re, a_re * h_re - a_im * h_im + b_re),
        tl.where(cut, b_im, a_re * h_im + a_im * h_re + b_im),
    )


@triton.jit
def pick_row(x, row, index):
    """Row `index` of a block, (1, features); `row` are the numbers of its rows."""
    return tl.sum(tl.where(row == index, x, 0.0), 0, keep_dims=True)


@triton.jit
def _then_both(a, b, before_a, before_b, a_next, b_next, before_a_next, before_b_next):
    a_both, b_both = then(a, b, a_next, b_next)
    before_a_both, before_b_both = then(a, b, before_a_next, before_b_next)
    return a_both, b_both, before_a_both, before_b_both


@triton.jit
def scan_maps(a, b, REVERSE: tl.constexpr):
    """Rows are stretches in a sequence: the maps from the first one on (from the last one on if `REVERSE`) to the end
    of every row, and those to its beginning.

    The latter are the former moved by one row. Moving rows between threads is what Triton does worst, so both
    are scanned: of stretches l then r, the map up to the beginning of the last row is that of l, then r's own.
    """
    one = tl.full(a.shape, 1.0, tl.float32)
    return tl.associative_scan((a, b, one, tl.zeros_like(b)), 0, _then_both, reverse=REVERSE)


@triton.jit
def _then_both_complex(
    a_re, a_im, b_re, b_im, p_re, p_im, q_re, q_im,
    next_a_re, next_a_im, next_b_re, next_b_im, next_p_re, next_p_im, next_q_re, next_q_im,
):  # fmt: skip
    r0, r1, r2, r3 = then_complex(a_re, a_im, b_re, b_im, next_a_re, next_a_im, next_b_re, next_b_im)
    r4, r5, r6, r7 = then_complex(a_re, a_im, b_re, b_im, next_p_re, next_p_im, next_q_re, next_q_im)
    return r0, r1, r2, r3, r4, r5, r6, r7


@triton.jit
def scan_maps_complex(a_re, a_im, b_re, b_im, REVERSE: tl.constexpr):
    """As `scan_maps`, `(a, b)` to the ends and `(a, b)` to the beginnings, each as real and imaginary parts."""
    zero = tl.zeros_like(b_re)
    one = tl.full(b_re.shape, 1.0, tl.float32)
    return tl.associative_scan((a_re, a_im, b_re, b_im, one, zero, zero, zero), 0, _then_both_complex, reverse=REVERSE)


@triton.jit
def first_state(ends, maps, plane, place, stride, mask, initial, REACH: tl.constexpr):
    """The state with which the chunk at `place` begins.

    `ends`: the words of the sequence's first chunk, one per feature, `stride` words to the next chunk;
    `maps` likewise for `a`, with `b` `plane` words further; `initial`: state before the first chunk.
    """
    if REACH > 0:  # the maps first: nothing but the last map remains to be applied once the state arrives
        row = tl.arange(0, REACH)[:, None]
        back = place - REACH + row
        words = maps + back * stride
        a, b = wait_pair(words, words + plane, (back >= 0) & mask, _ONE)
        a, b = tl.associative_scan((a, b), 0, then)
        a = pick_row(a, row, REACH - 1)
        b = pick_row(b, row, REACH - 1)
    h = initial
    if place > REACH:
        h = wait(ends + (place - REACH - 1) * stride, mask, 0)
    if REACH > 0:
        h = after(a, b, h)
    return h


@triton.jit
def first_state_complex(
    ends_re, ends_im, maps_re, maps_im, plane, place, stride, mask, initial_re, initial_im, REACH: tl.constexpr
):
    """As `first_state`, for real and imaginary parts."""
    if REACH > 0:
        row = tl.arange(0, REACH)[:, None]
        back = place - REACH + row
        here = (back >= 0) & mask
        re = maps_re + back * stride
        im = maps_im + back * stride
        a_re, a_im = wait_pair(re, im, here, _ONE)
        b_re, b_im = wait_pair(re + plane, im + plane, here, 0)
        a_re, a_im, b_re, b_im = tl.associative_scan((a_re, a_im, b_re, b_im), 0, then_complex)
        a_re = pick_row(a_re, row, REACH - 1)
        a_im = pick_row(a_im, row, REACH - 1)
        b_re = pick_row(b_re, row, REACH - 1)
        b_im = pick_row(b_im, row, REACH - 1)
    h_re = initial_re
    h_im = initial_im
    if place > REACH:
        offset = (place - REACH - 1) * stride
        h_re, h_im = wait_pair(ends_re + offset, ends_im + offset, mask, 0)
    if REACH > 0:
        h_re, h_im = after_complex(a_re, a_im, b_re, b_im, h_re, h_im)
    return h_re, h_im
