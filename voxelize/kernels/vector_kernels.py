"""Vector instructions that numba does not generate from loops, as functions on rows of C-contiguous arrays.

They are written in LLVM's intermediate representation (IR), which LLVM compiles for any processor. Products and sums
are neither fused nor reordered, so results are bit-identical to the scalar formula in the docstring.
"""

# mypy: disallow-untyped-defs=False

from __future__ import annotations

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_I32, _I64, _FLOAT = ir.IntType(32), ir.IntType(64), ir.FloatType()


@intrinsic
def lowest_bit(typing, word):
    """Position of the lowest set bit of a uint64 other than 0."""

    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


@intrinsic
def choose(typing, condition, one, other):
    """`one if condition else other` of two float64 without a branch."""

    def generate(context, builder, signature, arguments):
        return builder.select(*arguments)

    return types.float64(types.boolean, types.float64, types.float64), generate


@intrinsic
def prefetch(typing, rows, row):
    """Prefetch a row of a 2D array into the cache."""

    def generate(context, builder, signature, arguments):
        pointer = builder.bitcast(_row(context, builder, signature, arguments, 0, 1), ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer(), _I32, _I32, _I32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [pointer, _I32(0), _I32(3), _I32(1)])
        return context.get_dummy_value()

    return types.void(rows, types.int64), generate


@intrinsic
def add_crossing(typing, points, cell, step_b, step_c, sides, axis, along, touched, count):
    """Add a crossing to the four cells around it, and to `touched` those of them that were empty; returns its length.

    With row = points[cell + i * step_b + j * step_c] for i, j in 0, 1:
    row[:4] += sides[axis, 2 * i + j] + along * sides[axis, 4]. A cell is empty if row[3] is 0.

    points (cells, 4) float32, sides (3, 5, 4) float32, along float32, touched (cells,) int32.
    """

    def generate(context, builder, signature, arguments):
        cell, step_b, step_c, axis, along, count = (arguments[k] for k in (1, 2, 3, 5, 6, 8))
        sides = context.make_array(signature.args[4])(context, builder, arguments[4]).data
        sides = builder.gep(sides, [builder.mul(axis, _I64(20))])
        touched = context.make_array(signature.args[7])(context, builder, arguments[7]).data
        unit = _load(builder, builder.gep(sides, [_I64(16)]), 4)
        shift = builder.fmul(_splat(builder, along, 4), unit)
        for corner in range(4):
            here = cell
            if corner & 2:
                here = builder.add(here, step_b)
            if corner & 1:
                here = builder.add(here, step_c)
            row = _row(context, builder, signature, [arguments[0], here], 0, 1)
            before = _load(builder, row, 4)
            step = builder.fadd(_load(builder, builder.gep(sides, [_I64(4 * corner)]), 4), shift)
            _store(builder, builder.fadd(before, step), row)
            empty = builder.fcmp_ordered("==", builder.extract_element(before, _I32(3)), ir.Constant(_FLOAT, 0.0))
            builder.store(builder.trunc(here, _I32), builder.gep(touched, [count]))
            count = builder.add(count, builder.zext(empty, _I64))
        return count

    i8, f4 = types.int64, types.float32
    return i8(points, i8, i8, i8, sides, i8, f4, touched, i8), generate


@intrinsic
def add_plane(typing, sums, slot, points, cell, plane, toward, crossings, weight, regularization):
    """Add a triangle's plane to the sums of a voxel, with the crossings of one of its cells.

    sums[slot, k] += toward * plane[k] + regularization * points[cell, k] for k < 3,
    sums[slot, 3] += crossings, and sums[slot, k] += weight * plane[k] for 4 <= k < 12.

    sums (N, 12), points (cells, 4), plane (12,) with plane[3] = 1, and the scalars are float32.
    """

    def generate(context, builder, signature, arguments):
        toward, crossings, weight, regularization = arguments[5:]
        row = _row(context, builder, signature, arguments, 0, 1)
        point = _load(builder, _row(context, builder, signature, arguments, 2, 3), 4)
        plane = context.make_array(signature.args[4])(context, builder, arguments[4]).data
        factors = builder.insert_element(_splat(builder, toward, 4), crossings, _I32(3))
        shares = builder.insert_element(_splat(builder, regularization, 4), ir.Constant(_FLOAT, 0.0), _I32(3))
        linear = builder.fadd(builder.fmul(factors, _load(builder, plane, 4)), builder.fmul(shares, point))
        _store(builder, builder.fadd(_load(builder, row, 4), linear), row)
        row, plane = builder.gep(row, [_I64(4)]), builder.gep(plane, [_I64(4)])
        square = builder.fmul(_splat(builder, weight, 8), _load(builder, plane, 8))
        _store(builder, builder.fadd(_load(builder, row, 8), square), row)
        return context.get_dummy_value()

    i8, f4 = types.int64, types.float32
    return types.void(sums, i8, points, i8, plane, f4, f4, f4, f4), generate


@intrinsic
def add_bilinear(typing, texels, t00, t01, t10, t11, w00, w01, w10, w11, lanes, n, first):
    """Add four weighted texels, RGBA words: lanes[n, first + k] += sum of w * byte k, for k < 4.

    texels (X,) uint32, lanes (N, 8) int32; indices and weights are int64.
    """

    def generate(context, builder, signature, arguments):
        texels = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        row = _row(context, builder, signature, arguments, 9, 10)
        row = builder.gep(row, [arguments[11]])
        total = _load(builder, row, 4)
        for index, weight in zip(arguments[1:5], arguments[5:9], strict=True):
            word = builder.load(builder.gep(texels, [index]))
            channels = builder.zext(builder.bitcast(word, ir.VectorType(ir.IntType(8), 4)), total.type)
            total = builder.add(total, builder.mul(channels, _splat(builder, builder.trunc(weight, _I32), 4)))
        _store(builder, total, row)
        return context.get_dummy_value()

    i8 = types.int64
    return types.void(texels, i8, i8, i8, i8, i8, i8, i8, i8, lanes, i8, i8), generate


@intrinsic
def scale_lanes(typing, lanes, n, second, unit, values):
    """values[n, k] = lanes[n, k] * unit and values[n, 4 + k] = lanes[n, second + k] * unit, for k < 4.

    lanes (N, 8) int32, second int64, unit float32, values (N, 8) float32.
    """

    def generate(context, builder, signature, arguments):
        source = _row(context, builder, signature, arguments, 0, 1)
        target = _row(context, builder, signature, arguments, 4, 1)
        unit = _splat(builder, arguments[3], 4)
        for start, end in ((_I64(0), _I64(0)), (arguments[2], _I64(4))):
            numbers = builder.sitofp(_load(builder, builder.gep(source, [start]), 4), unit.type)
            _store(builder, builder.fmul(numbers, unit), builder.gep(target, [end]))
        return context.get_dummy_value()

    return types.void(lanes, types.int64, types.int64, types.float32, values), generate


@intrinsic
def add_color(typing, colors, slot, weight, factors, values, n, alpha):
    """Add a weighted sample to a voxel: colors[slot, k] += weight * (factors[k] * v[k]), for k < 8.

    v is values[n, 0], [1], [2], [6], [5], then alpha, 1 and 0: base color, metallic and roughness, alpha, 1.
    colors (N, 8), factors (8,) with 1 at 5 and 6, values (N, 8), weight and alpha are float32.
    """

    def generate(context, builder, signature, arguments):
        row = _row(context, builder, signature, arguments, 0, 1)
        values = _load(builder, _row(context, builder, signature, arguments, 4, 5), 8)
        factors = context.make_array(signature.args[3])(context, builder, arguments[3]).data
        rest = ir.Constant(values.type, [0.0, 1.0] + 6 * [0.0])
        sample = builder.shuffle_vector(values, rest, ir.Constant(ir.VectorType(_I32, 8), [0, 1, 2, 6, 5, 3, 9, 8]))
        sample = builder.insert_element(sample, arguments[6], _I32(5))
        sample = builder.fmul(_load(builder, factors, 8), sample)
        sample = builder.fmul(_splat(builder, arguments[2], 8), sample)
        _store(builder, builder.fadd(_load(builder, row, 8), sample), row)
        return context.get_dummy_value()

    i8, f4 = types.int64, types.float32
    return types.void(colors, i8, f4, factors, values, i8, f4), generate


def _row(context, builder, signature, arguments, array, index):
    """Return the pointer to the first element of a row, given the positions of the arguments."""
    kind = signature.args[array]
    found = context.make_array(kind)(context, builder, arguments[array])
    stride = cgutils.unpack_tuple(builder, found.shape, kind.ndim)[1]
    return builder.gep(found.data, [builder.mul(arguments[index], stride)])


def _load(builder, pointer, lanes):
    vector = ir.VectorType(pointer.type.pointee, lanes)
    return builder.load(builder.bitcast(pointer, vector.as_pointer()), align=4)


def _store(builder, value, pointer):
    builder.store(value, builder.bitcast(pointer, value.type.as_pointer()), align=4)


def _splat(builder, value, lanes):
    vector = builder.insert_element(ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined), value, _I32(0))
    return builder.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(_I32, lanes), [0] * lanes))
