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
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, models, register_model

LANES = 16
WIDE = 4 * LANES
VECTOR = ir.VectorType(ir.FloatType(), LANES)
INTEGERS = ir.VectorType(ir.IntType(32), LANES)
_FUSED = ("contract",)
# Options of every compiled function.
COMPILE: dict[str, Any] = {"error_model": "numpy", "nogil": True}


class Vector(types.Type):
    """A number of float32."""

    def __init__(self, lanes: int) -> None:
        super().__init__(name=f"float32x{lanes}")
        self.form = ir.VectorType(ir.FloatType(), lanes)


vector = Vector(LANES)
# Four vectors on which one computation runs in step, each instruction four times in a row: a chain
# of dependent instructions by itself leaves the CPU waiting, and it does not look ahead far enough.
wide = Vector(WIDE)


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, numba_type: Any) -> None:
        super().__init__(manager, numba_type, numba_type.form)


def lanewise(emit: Callable[..., Any], arity: int) -> Any:
    """An intrinsic of ``arity`` vectors of one width that gives another."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return emit(builder, *args)

    if arity == 2:
        return intrinsic(lambda typing, x, y: (x(x, x), generate))
    return intrinsic(lambda typing, x, y, z: (x(x, x, x), generate))


def _fma(builder: Any, x: Any, y: Any, z: Any) -> Any:
    return builder.fadd(builder.fmul(x, y, flags=_FUSED), z, flags=_FUSED)


def _largest(builder: Any, x: Any, y: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", x, y), x, y)


add = lanewise(lambda builder, x, y: builder.fadd(x, y), 2)
sub = lanewise(lambda builder, x, y: builder.fsub(x, y), 2)
mul = lanewise(lambda builder, x, y: builder.fmul(x, y), 2)
div = lanewise(lambda builder, x, y: builder.fdiv(x, y), 2)
largest = lanewise(_largest, 2)
fma = lanewise(_fma, 3)


def _splat(builder: Any, value: Any, form: Any = VECTOR) -> Any:
    undefined = ir.Constant(form, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), form.count), [0] * form.count)
    return builder.shuffle_vector(first, undefined, lanes)


@intrinsic
def splat(typing: Any, value: Any) -> Any:
    """One float32 in all lanes."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _splat(builder, args[0])

    return vector(types.float32), generate


@intrinsic
def _alike(typing: Any, x: Any, value: Any) -> Any:
    """A number in all lanes of a vector as wide as another."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _splat(builder, args[1], args[0].type)

    return x(x, types.float32), generate


@njit(**COMPILE)
def like(x: Any, value: float) -> Any:
    """A Python number in all lanes of a vector as wide as ``x``."""
    return _alike(x, np.float32(value))


def lanes_from(start: int, count: int) -> Any:
    """The indices of ``count`` lanes in a row, for LLVM's shuffles."""
    return ir.Constant(ir.VectorType(ir.IntType(32), count), list(range(start, start + count)))


def joined(builder: Any, parts: Any) -> Any:
    """Emit one vector of two, four or more side by side."""
    while len(parts) > 1:
        lanes = lanes_from(0, 2 * parts[0].type.count)
        pairs = zip(parts[::2], parts[1::2], strict=True)
        parts = [builder.shuffle_vector(x, y, lanes) for x, y in pairs]
    return parts[0]


@intrinsic
def join(typing: Any, x: Any, y: Any, z: Any, w: Any) -> Any:
    """Four vectors side by side."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return joined(builder, args)

    return wide(vector, vector, vector, vector), generate


@intrinsic
def split(typing: Any, x: Any) -> Any:
    """The four vectors of a wide one."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        parts = [
            builder.shuffle_vector(args[0], args[0], lanes_from(start, LANES))
            for start in range(0, WIDE, LANES)
        ]
        return context.make_tuple(builder, signature.return_type, parts)

    return types.UniTuple(vector, 4)(wide), generate


def _address(  # noqa: PLR0917
    context: Any, builder: Any, array_type: Any, array: Any, offset: Any, form: Any = VECTOR
) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [offset]), form.as_pointer())


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
    """Write a vector at ``offset`` elements into a contiguous array of any rank."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        where = _address(context, builder, signature.args[0], *args[:2], form=args[2].type)
        builder.store(args[2], where, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), generate


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
        low, high = (builder.shuffle_vector(x, y, ir.Constant(INTEGERS, i)) for i in (even, odd))
        return builder.fadd(low, high)

    return lanewise(emit, 2)


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


def _interleave(builder: Any, rows: list[Any]) -> list[Any]:
    """Alternate the lanes of the first half of the rows with those of the second."""
    half = len(rows) // 2
    mixed = [lane + side for lane in range(LANES) for side in (0, LANES)]
    low, high = (ir.Constant(INTEGERS, mixed[i : i + LANES]) for i in (0, LANES))
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
            rows = _interleave(builder, rows)
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
