"""Sixteen float32 lanes as one numba value, so that speed does not hang on auto-vectorisation.

LLVM splits the vector into what the CPU has: one AVX-512, two AVX or four SSE/NEON registers.
Without it the loops over states need run-time aliasing checks and spill their accumulators, which
took two to three times as long. No fast-math flag but ``contract`` (fused multiply-add) is set, so
the order of every sum is the one written.
"""

# Numba infers the types of compiled functions, and its decorators have none.
# mypy: disable-error-code="misc, untyped-decorator, import-untyped"

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import get_num_threads, njit, set_num_threads, types
from numba.core import event
from numba.extending import intrinsic, models, register_model
from numba.misc.appdirs import user_cache_dir

from petct_uad.console import console

LANES = 16
_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_INTEGERS = ir.VectorType(ir.IntType(32), LANES)
_FUSED = ("contract",)
_MOST_THREADS = get_num_threads()
# Options of every compiled function.
COMPILE: dict[str, Any] = {"error_model": "numpy", "nogil": True}


class Vector(types.Type):
    """Sixteen float32."""

    def __init__(self) -> None:
        super().__init__(name=f"float32x{LANES}")


vector = Vector()


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, numba_type: Any) -> None:
        super().__init__(manager, numba_type, _VECTOR)


def _lanewise(emit: Callable[..., Any], arity: int) -> Any:
    """An intrinsic of ``arity`` vectors that gives a vector."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return emit(builder, *args)

    if arity == 2:
        return intrinsic(lambda typing, x, y: (vector(vector, vector), generate))
    return intrinsic(lambda typing, x, y, z: (vector(vector, vector, vector), generate))


def _fma(builder: Any, x: Any, y: Any, z: Any) -> Any:
    return builder.fadd(builder.fmul(x, y, flags=_FUSED), z, flags=_FUSED)


def _largest(builder: Any, x: Any, y: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", x, y), x, y)


def _scale(builder: Any, x: Any, power: Any) -> Any:
    shift = ir.Constant(_INTEGERS, [23] * LANES)
    exponent = builder.shl(builder.bitcast(power, _INTEGERS), shift)
    return builder.bitcast(builder.add(builder.bitcast(x, _INTEGERS), exponent), _VECTOR)


add = _lanewise(lambda builder, x, y: builder.fadd(x, y), 2)
sub = _lanewise(lambda builder, x, y: builder.fsub(x, y), 2)
mul = _lanewise(lambda builder, x, y: builder.fmul(x, y), 2)
div = _lanewise(lambda builder, x, y: builder.fdiv(x, y), 2)
largest = _lanewise(_largest, 2)
fma = _lanewise(_fma, 3)
# x times 2**k, where k stands in the low mantissa bits of the other operand.
_scale_by_power = _lanewise(_scale, 2)


def _splat(builder: Any, value: Any) -> Any:
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(_INTEGERS, [0] * LANES))


@intrinsic
def splat(typing: Any, value: Any) -> Any:
    """One float32 in all lanes."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _splat(builder, args[0])

    return vector(types.float32), generate


def _address(context: Any, builder: Any, array_type: Any, array: Any, offset: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [offset]), _VECTOR.as_pointer())


@intrinsic
def load(typing: Any, array: Any, offset: Any) -> Any:
    """Sixteen float32 from ``offset`` elements into a contiguous array of any rank."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_address(context, builder, signature.args[0], *args), align=4)

    return vector(array, types.intp), generate


@intrinsic
def broadcast(typing: Any, array: Any, offset: Any) -> Any:
    """The float32 at ``offset`` elements into a contiguous array, in all lanes."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return _splat(builder, builder.load(builder.gep(data, [args[1]])))

    return vector(array, types.intp), generate


@intrinsic
def store(typing: Any, array: Any, offset: Any, value: Any) -> Any:
    """Write sixteen float32 at ``offset`` elements into a contiguous array of any rank."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        where = _address(context, builder, signature.args[0], args[0], args[1])
        builder.store(args[2], where, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), generate


@intrinsic
def prefetch(typing: Any, array: Any, offset: Any) -> Any:
    """Ask for the cache line at ``offset`` elements into an array, which will be used soon."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        where = builder.bitcast(_address(context, builder, signature.args[0], *args), byte)
        form = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        call = builder.module.declare_intrinsic("llvm.prefetch.p0", (), form)
        builder.call(call, [where, word(0), word(2), word(1)])  # to read, into L2, data
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


@intrinsic
def lane_sum(typing: Any, value: Any) -> Any:
    """The sum of the lanes, always in the same order: halves folded onto each other."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        folded, width = args[0], LANES
        while width > 1:
            width //= 2
            indices = ir.VectorType(ir.IntType(32), width)
            low = builder.shuffle_vector(folded, folded, ir.Constant(indices, list(range(width))))
            high = builder.shuffle_vector(
                folded, folded, ir.Constant(indices, list(range(width, 2 * width)))
            )
            folded = builder.fadd(low, high)
        return builder.extract_element(folded, ir.Constant(ir.IntType(32), 0))

    return types.float32(vector), generate


_GROUPS = LANES // 4


def _fold(even: list[int], odd: list[int]) -> Any:
    """The sum of two shuffles of two vectors."""

    def emit(builder: Any, x: Any, y: Any) -> Any:
        low, high = (builder.shuffle_vector(x, y, ir.Constant(_INTEGERS, i)) for i in (even, odd))
        return builder.fadd(low, high)

    return _lanewise(emit, 2)


# x0 + x1, x2 + x3, y0 + y1, y2 + y3 and so on in every group of four lanes;
_fold_lanes = _fold(
    *([4 * g + 16 * s + i for g in range(_GROUPS) for s in (0, 1) for i in (odd, odd + 2)]
      for odd in (0, 1))
)  # fmt: skip
# the same with groups of four in the place of lanes.
_fold_groups = _fold(
    *([4 * g + 16 * s + i for s in (0, 1) for g in (odd, odd + 2) for i in range(4)]
      for odd in (0, 1))
)  # fmt: skip


@njit(**COMPILE)
def _four_sums(array: Any, at: Any) -> Any:
    one = _fold_lanes(load(array, at), load(array, at + LANES))
    two = _fold_lanes(load(array, at + 2 * LANES), load(array, at + 3 * LANES))
    return _fold_lanes(one, two)


@njit(**COMPILE)
def lane_sums(array: Any, at: Any) -> Any:
    """The sums of the lanes of sixteen vectors in a row, as one vector."""
    one = _fold_groups(_four_sums(array, at), _four_sums(array, at + 4 * LANES))
    two = _fold_groups(_four_sums(array, at + 8 * LANES), _four_sums(array, at + 12 * LANES))
    return _fold_groups(one, two)


def _interleave(builder: Any, rows: list[Any], size: int) -> list[Any]:
    """Alternate groups of ``size`` lanes of the first half of the rows with those of the second."""
    groups = [range(g, g + size) for g in range(0, LANES, size)]
    mixed = [lane + side for group in groups for side in (0, LANES) for lane in group]
    halves = (ir.Constant(_INTEGERS, half) for half in (mixed[:LANES], mixed[LANES:]))
    low, high = halves
    half = len(rows) // 2
    pairs = zip(rows[:half], rows[half:], strict=True)
    return [builder.shuffle_vector(x, y, part) for x, y in pairs for part in (low, high)]


@intrinsic
def transpose(typing: Any, array: Any, offset: Any) -> Any:
    """Transpose a block of sixteen by sixteen float32 where it lies.

    Four times the rows of the upper half are interleaved with those of the lower one.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        first = _address(context, builder, signature.args[0], *args)
        places = [builder.gep(first, [ir.Constant(ir.IntType(64), i)]) for i in range(LANES)]
        rows = [builder.load(place, align=4) for place in places]
        for _ in range(4):
            rows = _interleave(builder, rows, 1)
        for row, place in zip(rows, places, strict=True):
            builder.store(row, place, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


@njit(**COMPILE)
def aligned(size: int) -> Any:
    """Zeros that start on a cache line, so that no vector lies across two."""
    array = np.zeros(size + LANES, np.float32)
    start = (-array.ctypes.data % 64) // 4
    return array[start : start + size]


@njit(**COMPILE)
def constant(value: float) -> Any:
    """A Python number in all lanes."""
    return splat(np.float32(value))


@njit(**COMPILE)
def exp2(x: Any) -> Any:
    """Two to the power of x, for x <= 127; relative error below 2e-7, underflow ends at 2**-126.

    Adding 1.5 * 2**23 rounds x to an integer k, kept in the low mantissa bits; a polynomial gives
    2**(x - k) on [-0.5, 0.5] and k is added to its exponent. The polynomial is the one of degree 5
    with the smallest largest relative error (9e-8 before rounding) among those that give 1 at 0.
    """
    x = largest(x, constant(-126.0))
    shifted = add(x, constant(12582912.0))
    r = sub(x, sub(shifted, constant(12582912.0)))
    p = fma(constant(1.3264727246979939e-3), r, constant(9.671512688172977e-3))
    p = fma(p, r, constant(5.5507337435747955e-2))
    p = fma(p, r, constant(2.4022242084634773e-1))
    p = fma(p, r, constant(6.93146977598716e-1))
    return _scale_by_power(fma(p, r, constant(1.0)), shifted)


@njit(**COMPILE)
def exp_minus_abs(x: Any) -> Any:
    """exp(-|x|)."""
    negated = sub(constant(0.0), x)
    return exp2(mul(sub(constant(0.0), largest(x, negated)), constant(1.4426950408889634)))


@njit(**COMPILE)
def _log1p(s: Any) -> Any:
    """log(1 + z) = 2 artanh(s), s = z / (2 + z) <= 1/3; the rest after s**15 is below 1e-8."""
    q = mul(s, s)
    p = fma(constant(1 / 15), q, constant(1 / 13))
    p = fma(p, q, constant(1 / 11))
    p = fma(p, q, constant(1 / 9))
    p = fma(p, q, constant(1 / 7))
    p = fma(p, q, constant(1 / 5))
    p = fma(p, q, constant(1 / 3))
    return mul(add(s, s), fma(p, q, constant(1.0)))


@njit(**COMPILE)
def softplus(x: Any) -> Any:
    """log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|))."""
    z = exp_minus_abs(x)
    return add(largest(x, constant(0.0)), _log1p(div(z, add(z, constant(2.0)))))


@njit(**COMPILE)
def softplus_and_slope(x: Any) -> Any:
    """softplus and its derivative, the sigmoid, with one exponential and one division."""
    z = exp_minus_abs(x)
    one, two = add(z, constant(1.0)), add(z, constant(2.0))
    scaled = div(z, mul(one, two))
    smaller = mul(two, scaled)
    slope = _where_negative(x, smaller, sub(constant(1.0), smaller))
    return add(largest(x, constant(0.0)), _log1p(mul(one, scaled))), slope


@njit(**COMPILE)
def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)), without overflow: z / (1 + z) below zero."""
    z = exp_minus_abs(x)
    smaller = div(z, add(z, constant(1.0)))
    return _where_negative(x, smaller, sub(constant(1.0), smaller))


def _select(builder: Any, x: Any, negative: Any, other: Any) -> Any:
    zero = ir.Constant(_VECTOR, [0.0] * LANES)
    return builder.select(builder.fcmp_ordered("<", x, zero), negative, other)


_where_negative = _lanewise(_select, 3)


_kernels: list[Any] = []


class _Announcer(event.Listener):
    """Says once per process that a kernel is being compiled, and not loaded from the cache."""

    silent = False

    def on_start(self, started: Any) -> None:
        if not self.silent and any(started.data["dispatcher"] is entry for entry in _kernels):
            _Announcer.silent = True
            console.print("selective scan: compiling for this CPU, once; takes about 30 s")

    def on_end(self, ended: Any) -> None:
        """Nothing to say."""


event.register("numba:compile", _Announcer())


def kernel(function: Callable[..., None]) -> Any:
    """Compile the parallel entry of a computation on first use, and keep it on disk.

    numba checks only the file of the kernel itself, so the folder is named for all sources here;
    its index is keyed by the CPU. It lies in the user's cache, which spares read-only installs and
    the source tree; ``NUMBA_CACHE_DIR`` moves it. Where nothing can be written nothing is kept.
    """
    given = numba.config.CACHE_DIR
    sources = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    folder = Path(given or user_cache_dir("petct-uad")) / sha256(sources).hexdigest()[:16]
    numba.config.CACHE_DIR = str(folder)
    try:
        compiled = njit(parallel=True, cache=True, **COMPILE)(function)
    except (RuntimeError, OSError):
        compiled = njit(parallel=True, **COMPILE)(function)
    finally:
        numba.config.CACHE_DIR = given
    _kernels.append(compiled)
    return compiled


def run_kernel(entry: Callable[..., None], tasks: int, *arguments: Any) -> None:
    """Call a kernel with the memory of tensors, on as many threads as torch may use."""
    set_num_threads(min(torch.get_num_threads(), _MOST_THREADS))
    entry(tasks, *(_memory(argument) for argument in arguments))


def _memory(argument: Any) -> Any:
    """Tensors as arrays, also inside a (named) tuple; anything else as it is."""
    if isinstance(argument, torch.Tensor):
        return argument.numpy()
    if isinstance(argument, tuple):
        items = [_memory(item) for item in argument]
        return argument._make(items) if hasattr(argument, "_make") else tuple(items)
    return argument
