"""exp2, softplus and sigmoid on vectors of any width, with errors of a few float32 roundings."""

# Numba infers the types of compiled functions, and its decorators have none.
# mypy: disable-error-code="misc, untyped-decorator, import-untyped"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from petct_uad.ops.selective_scan.simd import (
    COMPILE,
    INTEGERS,
    LANES,
    VECTOR,
    add,
    div,
    fma,
    joined,
    lanes_from,
    lanewise,
    largest,
    like,
    mul,
    sub,
)


def _scale(builder: Any, x: Any, power: Any) -> Any:
    integers = ir.VectorType(ir.IntType(32), x.type.count)
    shift = ir.Constant(integers, [23] * x.type.count)
    exponent = builder.shl(builder.bitcast(power, integers), shift)
    return builder.bitcast(builder.add(builder.bitcast(x, integers), exponent), x.type)


# x times 2**k, where k is in the low mantissa bits of the other operand.
_scale_by_power = lanewise(_scale, 2)


def _has_avx512(context: Any) -> bool:
    features: str = context.codegen().magic_tuple()[2]
    return "+avx512f" in features.split(",")


@intrinsic
def _avx512(typing: Any) -> Any:
    """Whether the CPU compiled for has AVX-512, as a constant."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return ir.Constant(ir.IntType(1), _has_avx512(context))

    return types.boolean(), generate


def _avx512_call(context: Any, builder: Any, name: str, of_part: Callable[..., list[Any]]) -> Any:
    """Emits an instruction that LLVM has no word of its own for, sixteen lanes at a time."""

    def call(*wholes: Any) -> Any:
        if not _has_avx512(context):  # compiled, never run
            return wholes[0]
        found = []
        for start in range(0, wholes[0].type.count, LANES):
            arguments = of_part(
                *(builder.shuffle_vector(x, x, lanes_from(start, LANES)) for x in wholes)
            )
            form = ir.FunctionType(VECTOR, [argument.type for argument in arguments])
            callee = builder.module.declare_intrinsic(f"llvm.x86.avx512.{name}.512", (), form)
            found.append(builder.call(callee, arguments))
        return joined(builder, found)

    return call


@intrinsic
def _root(typing: Any, index: Any) -> Any:
    """2**(j / 16), j from the low four bits of every lane."""
    roots = ir.Constant(VECTOR, np.exp2(np.arange(16) / 16).astype(np.float32).tolist())

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def of_part(part: Any) -> list[Any]:
            return [roots, builder.bitcast(part, INTEGERS)]

        return _avx512_call(context, builder, "permvar.sf", of_part)(*args)

    return index(index), generate


@intrinsic
def _scale_by_floor(typing: Any, x: Any, power: Any) -> Any:
    """x times 2**floor(power)."""
    every, nearest = ir.Constant(ir.IntType(16), -1), ir.Constant(ir.IntType(32), 4)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def of_part(part: Any, by: Any) -> list[Any]:
            return [part, by, part, every, nearest]

        return _avx512_call(context, builder, "mask.scalef.ps", of_part)(*args)

    return x(x, power), generate


@njit(**COMPILE)
def exp2(x: Any) -> Any:
    """Two to the power of x, for x <= 127; relative error below 2e-7 from 2**-126 on."""
    return _exp2_by_roots(x) if _avx512() else _exp2_by_polynomial(x)


@njit(**COMPILE)
def _exp2_by_roots(x: Any) -> Any:
    """Adding 1.5 * 2**19 rounds x to sixteenths, whose fraction selects a root.

    A polynomial gives 2**r - 1 for what is left, in [-1/32, 1/32], with an error below 8e-8 |r|.
    """
    shifted = add(x, like(x, 786432.0))
    rounded = sub(shifted, like(x, 786432.0))
    r, root = sub(x, rounded), _root(shifted)
    p = fma(like(x, 0.05550248), r, like(x, 0.24023355))
    p = mul(fma(p, r, like(x, 0.6931471818)), r)
    return _scale_by_floor(fma(root, p, root), rounded)


@njit(**COMPILE)
def _exp2_by_polynomial(x: Any) -> Any:
    """Adding 1.5 * 2**23 rounds x to an integer k, kept in the low mantissa bits.

    A polynomial gives 2**(x - k) on [-0.5, 0.5] and k is added to its exponent; underflow ends at
    2**-126. The polynomial is the one of degree 5 with the smallest largest relative error (9e-8
    before rounding) among those that give 1 at 0.
    """
    x = largest(x, like(x, -126.0))
    shifted = add(x, like(x, 12582912.0))
    r = sub(x, sub(shifted, like(x, 12582912.0)))
    p = fma(like(x, 1.3264727246979939e-3), r, like(x, 9.671512688172977e-3))
    p = fma(p, r, like(x, 5.5507337435747955e-2))
    p = fma(p, r, like(x, 2.4022242084634773e-1))
    p = fma(p, r, like(x, 6.93146977598716e-1))
    return _scale_by_power(fma(p, r, like(x, 1.0)), shifted)


@njit(**COMPILE)
def exp_minus_abs(x: Any) -> Any:
    """exp(-|x|)."""
    negated = sub(like(x, 0.0), x)
    return exp2(mul(sub(like(x, 0.0), largest(x, negated)), like(x, 1.4426950408889634)))


@njit(**COMPILE)
def _log1p(s: Any) -> Any:
    """log(1 + z) = 2 artanh(s), s = z / (2 + z) <= 1/3; the rest after s**15 is below 1e-8."""
    q = mul(s, s)
    p = fma(like(s, 1 / 15), q, like(s, 1 / 13))
    p = fma(p, q, like(s, 1 / 11))
    p = fma(p, q, like(s, 1 / 9))
    p = fma(p, q, like(s, 1 / 7))
    p = fma(p, q, like(s, 1 / 5))
    p = fma(p, q, like(s, 1 / 3))
    return mul(add(s, s), fma(p, q, like(s, 1.0)))


@njit(**COMPILE)
def softplus(x: Any) -> Any:
    """log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|))."""
    z = exp_minus_abs(x)
    return add(largest(x, like(x, 0.0)), _log1p(div(z, add(z, like(x, 2.0)))))


@njit(**COMPILE)
def softplus_and_slope(x: Any) -> Any:
    """softplus and its derivative, the sigmoid, with one exponential and one division."""
    z = exp_minus_abs(x)
    one, two = add(z, like(x, 1.0)), add(z, like(x, 2.0))
    scaled = div(z, mul(one, two))
    smaller = mul(two, scaled)
    slope = _where_negative(x, smaller, sub(like(x, 1.0), smaller))
    return add(largest(x, like(x, 0.0)), _log1p(mul(one, scaled))), slope


@njit(**COMPILE)
def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)), without overflow: z / (1 + z) below zero."""
    z = exp_minus_abs(x)
    smaller = div(z, add(z, like(x, 1.0)))
    return _where_negative(x, smaller, sub(like(x, 1.0), smaller))


def _select(builder: Any, x: Any, negative: Any, other: Any) -> Any:
    zero = ir.Constant(x.type, [0.0] * x.type.count)
    return builder.select(builder.fcmp_ordered("<", x, zero), negative, other)


_where_negative = lanewise(_select, 3)
