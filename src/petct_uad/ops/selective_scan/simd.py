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
from petct_uad.ops.selective_scan.memory import keep_freed_memory

LANES = 16
WIDE = 4 * LANES
_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_INTEGERS = ir.VectorType(ir.IntType(32), LANES)
_FUSED = ("contract",)
_MOST_THREADS = get_num_threads()
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


def _lanewise(emit: Callable[..., Any], arity: int) -> Any:
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


def _scale(builder: Any, x: Any, power: Any) -> Any:
    integers = ir.VectorType(ir.IntType(32), x.type.count)
    shift = ir.Constant(integers, [23] * x.type.count)
    exponent = builder.shl(builder.bitcast(power, integers), shift)
    return builder.bitcast(builder.add(builder.bitcast(x, integers), exponent), x.type)


add = _lanewise(lambda builder, x, y: builder.fadd(x, y), 2)
sub = _lanewise(lambda builder, x, y: builder.fsub(x, y), 2)
mul = _lanewise(lambda builder, x, y: builder.fmul(x, y), 2)
div = _lanewise(lambda builder, x, y: builder.fdiv(x, y), 2)
largest = _lanewise(_largest, 2)
fma = _lanewise(_fma, 3)
# x times 2**k, where k stands in the low mantissa bits of the other operand.
_scale_by_power = _lanewise(_scale, 2)


def _splat(builder: Any, value: Any, form: Any = _VECTOR) -> Any:
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


def _lanes(start: int, count: int) -> Any:
    return ir.Constant(ir.VectorType(ir.IntType(32), count), list(range(start, start + count)))


def _joined(builder: Any, parts: Any) -> Any:
    while len(parts) > 1:
        lanes = _lanes(0, 2 * parts[0].type.count)
        pairs = zip(parts[::2], parts[1::2], strict=True)
        parts = [builder.shuffle_vector(x, y, lanes) for x, y in pairs]
    return parts[0]


@intrinsic
def join(typing: Any, x: Any, y: Any, z: Any, w: Any) -> Any:
    """Four vectors side by side."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _joined(builder, args)

    return wide(vector, vector, vector, vector), generate


@intrinsic
def split(typing: Any, x: Any) -> Any:
    """The four vectors of a wide one."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        parts = [
            builder.shuffle_vector(args[0], args[0], _lanes(start, LANES))
            for start in range(0, WIDE, LANES)
        ]
        return context.make_tuple(builder, signature.return_type, parts)

    return types.UniTuple(vector, 4)(wide), generate


def _address(  # noqa: PLR0917
    context: Any, builder: Any, array_type: Any, array: Any, offset: Any, form: Any = _VECTOR
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


def _interleave(builder: Any, rows: list[Any]) -> list[Any]:
    """Alternate the lanes of the first half of the rows with those of the second."""
    half = len(rows) // 2
    mixed = [lane + side for lane in range(LANES) for side in (0, LANES)]
    low, high = (ir.Constant(_INTEGERS, mixed[i : i + LANES]) for i in (0, LANES))
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
                *(builder.shuffle_vector(x, x, _lanes(start, LANES)) for x in wholes)
            )
            form = ir.FunctionType(_VECTOR, [argument.type for argument in arguments])
            callee = builder.module.declare_intrinsic(f"llvm.x86.avx512.{name}.512", (), form)
            found.append(builder.call(callee, arguments))
        return _joined(builder, found)

    return call


@intrinsic
def _root(typing: Any, index: Any) -> Any:
    """2**(j / 16), j from the low four bits of every lane."""
    roots = ir.Constant(_VECTOR, np.exp2(np.arange(16) / 16).astype(np.float32).tolist())

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def of_part(part: Any) -> list[Any]:
            return [roots, builder.bitcast(part, _INTEGERS)]

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
    keep_freed_memory()
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
