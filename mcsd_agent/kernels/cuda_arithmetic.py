"""Arithmetic of the section kernels: what Triton's own functions do with more instructions than this needs.

Kernels that only move data become limited by instructions when an exponential or a quotient brings along the
handling of denormal numbers, so both are single instructions here (relative error below 2^-21; a denormal result
is 0). Triton's interpreter, which has no instructions, takes the plain form.
"""

# Triton's language knows no `(*x, y)`, and its growing tuples have no types that mypy could follow.
# ruff: noqa: RUF005
# mypy: disable-error-code="assignment"

from __future__ import annotations

import triton
import triton.language as tl

_LOG2_E = tl.constexpr(1.4426950408889634)

if triton.knobs.runtime.interpret:

    @triton.jit
    def exp2(x):
        """2^x."""
        return tl.exp2(x)

    @triton.jit
    def reciprocal(x):
        """1 / x."""
        return 1.0 / x

    @triton.jit
    def wide(x):
        """`x` as float32."""
        return x.to(tl.float32)

else:

    @triton.jit
    def exp2(x):
        """2^x."""
        return tl.inline_asm_elementwise(
            "ex2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )

    @triton.jit
    def reciprocal(x):
        """1 / x."""
        return tl.inline_asm_elementwise(
            "rcp.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )

    @triton.jit
    def wide(x):
        """`x` as float32; two bfloat16 numbers, which lie in one register, take an instruction each."""
        if x.dtype == tl.bfloat16:
            bits = tl.inline_asm_elementwise(
                "shl.b32 $0, $2, 16; and.b32 $1, $2, 0xffff0000;",
                "=r,=r,r", [x.to(tl.int16, bitcast=True)], dtype=tl.int32, is_pure=True, pack=2,
            )  # fmt: skip
            return bits.to(tl.float32, bitcast=True)
        else:
            return x.to(tl.float32)


@triton.jit
def sigmoid(u):
    """1 / (1 + e^-u)."""
    return reciprocal(1.0 + exp2(u * -_LOG2_E))


@triton.jit
def softplus(z):
    """log(1 + e^z). With e = e^-|z|: log(1 + e) = 2 artanh(e / (2 + e)), which keeps relative precision for tiny e."""
    e = exp2(tl.abs(z) * -_LOG2_E)
    s = e * reciprocal(2.0 + e)
    q = s * s
    odd = 2.0 + q * (
        0.66666311025619507 + q * (0.40024983882904052 + q * (0.2795937657356262 + q * 0.2818463444709778))
    )
    return tl.maximum(z, 0.0) + s * odd


@triton.jit
def selective_weights(x):
    """a = e^-x and 1 - a for x >= 0; where a is close to 1 its complement comes first, as a polynomial in x."""
    near = x * (0.99999874 + x * (-0.49977227 + x * 0.16055494))  # relative error below 1.4e-6
    fresh = tl.where(x < 0.1, near, 1.0 - exp2(x * -_LOG2_E))
    return 1.0 - fresh, fresh


@triton.jit
def channel_sum(x, GROUP: tl.constexpr, CHANNEL_BLOCK: tl.constexpr):
    """The sum over each channel's features, (rows, GROUP * CHANNEL_BLOCK) -> (rows, GROUP)."""
    if GROUP == 1:
        return tl.sum(x, 1, keep_dims=True)
    else:
        return tl.sum(tl.reshape(x, (x.shape[0], GROUP, CHANNEL_BLOCK)), 2)


@triton.jit
def per_feature(x, GROUP: tl.constexpr, CHANNEL_BLOCK: tl.constexpr):
    """A number per channel, (rows, GROUP), for each of its features; (rows, 1) is left to be broadcast."""
    if GROUP == 1:
        return x
    else:
        wide = tl.broadcast_to(x[:, :, None], (x.shape[0], GROUP, CHANNEL_BLOCK))
        return tl.reshape(wide, (x.shape[0], GROUP * CHANNEL_BLOCK))


@triton.jit
def load_where(words, here, other, ALL: tl.constexpr):
    """A block of which the elements `here` are read and the others are `other`; all are read if `ALL`."""
    if ALL:
        return tl.load(words)
    else:
        return tl.load(words, mask=here, other=other)


@triton.jit
def store_where(words, value, here, ALL: tl.constexpr):
    """Write the elements `here` of a block, or all if `ALL`, in the type that the memory has."""
    if ALL:
        tl.store(words, value.to(words.dtype.element_ty))
    else:
        tl.store(words, value.to(words.dtype.element_ty), mask=here)


@triton.jit
def load_rows(words, STRIDE: tl.constexpr, segment, left, mask, other, RUN: tl.constexpr, ALL: tl.constexpr):
    """The `RUN` tokens of every segment, a block of segments by features for each; `words`: the first tokens."""
    rows = ()
    for r in tl.static_range(RUN):
        here = (segment * RUN + r < left) & mask
        rows = rows + (load_where(words + r * STRIDE, here, other, ALL),)
    return rows


@triton.jit
def load_starts(starts, segment, left, STARTS: tl.constexpr, RUN: tl.constexpr, EVEN: tl.constexpr):
    """As `load_rows`, whether an episode starts at each token, (segments, 1); nothing unless `STARTS`."""
    begins = ()
    if STARTS:
        for r in tl.static_range(RUN):
            t = segment * RUN + r
            begins = begins + (load_where(starts + t, t < left, 0, EVEN) != 0,)
    return begins
