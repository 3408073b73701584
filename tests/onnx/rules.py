"""Which variants are not compared, and why: the standard excludes them, or one of the two references is known to be wrong.

A rule is a reason and a condition on the node, its attributes and its inputs; never a number of one run. Each rule names
what the standard says, or the fault of the reference.
"""

import dataclasses

import numpy as np
from onnx import helper


@dataclasses.dataclass
class Node:
    """The node of a variant: its attributes, and its inputs by position (None for one that is left out)."""

    operator: str
    version: int
    attributes: dict
    inputs: list
    # The datatypes that ONNX's inference finds for the outputs; None for one that it does not know.
    outputs: list

    def get(self, name, default=None):
        return self.attributes.get(name, default)

    def input(self, at):
        return self.inputs[at] if at < len(self.inputs) else None

    def shape(self, at):
        return None if self.input(at) is None else self.input(at).shape


def of(node, version, arrays):
    """The node as the rules see it. `arrays` has the values of all inputs by name."""
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    plain = {name: value.decode() if isinstance(value, bytes) else value for name, value in attributes.items()}
    return Node(node.op_type, version, plain, [arrays.get(name) for name in node.input], [])


def invalid(node):
    """Why the standard gives this node no result; None where it gives one."""
    return first(INVALID, node)


def reference_is_wrong(node):
    """Why the reference evaluator's result is not used; None where it is."""
    return first(REFERENCE, node)


def onnxruntime_is_wrong(node):
    """Why onnxruntime's result is not used; None where it is."""
    return first(ONNXRUNTIME, node)


def first(rules, node):
    for operators, reason, holds in rules:
        if node.operator in operators.split() and holds(node):
            return f"{node.operator}: {reason}"
    return None


def blocks_do_not_fit(node):
    x, scale, size = node.shape(0), node.shape(1), node.get("block_size", 0)
    if not size or len(x) != len(scale):
        return bool(size)
    axis = node.get("axis", 1)
    axis += len(x) if axis < 0 else 0
    return any(s != (-(-d // size) if at == axis else d) for at, (d, s) in enumerate(zip(x, scale)))


def scattered_shape(node):
    data, indices = node.shape(0), node.shape(1)
    return None if not indices or indices[-1] > len(data) else indices[:-1] + data[indices[-1] :]


def sizes_do_not_fit(node):
    axes = node.get("axes")
    count = node.input(0).ndim if axes is None else len(axes)
    given = [node.input(at) for at in (2, 3) if node.input(at) is not None and node.input(at).size]
    return any(len(one) != count for one in given)


def edges_are_wrong(node):
    rate, low, high = (float(np.ravel(node.input(at))[0]) for at in (2, 3, 4))
    return not 0 <= low <= high <= rate / 2


def is_wide(array):
    """True when exp() of some number is nothing beside exp() of another one."""
    finite = array[np.isfinite(array)].astype(np.float64)
    return bool(finite.size and np.ptp(finite) > 16)


def squares_overflow(array):
    exact = sum(int(x) ** 2 for x in array.ravel())
    return exact > int(np.iinfo(array.dtype).max)


def has_fraction(array):
    return array is not None and array.dtype.kind == "f" and bool(np.any(array != np.trunc(array)))


def has_nan(array):
    return array is not None and array.dtype.kind == "f" and bool(np.any(np.isnan(array)))


def is_not_finite(array):
    return array is not None and array.dtype.kind == "f" and not np.all(np.isfinite(array))


# Operators, reason, condition.
INVALID = [
    (
        "ReduceL2",
        "the standard does not say what an integer becomes that does not fit: a square",
        lambda n: n.input(0).dtype.kind in "iu" and squares_overflow(n.input(0)),
    ),
    ("AffineGrid", "`theta` and `size` have the same N", lambda n: n.shape(0)[0] != n.input(1)[0]),
    ("DynamicQuantizeLinear", "no elements have no minimum", lambda n: n.input(0).size == 0),
    ("MelWeightMatrix", "the edges are a range of frequencies, from 0 to half of the rate", edges_are_wrong),
    ("QuantizeLinear DequantizeLinear", "with `block_size`, the scales have one element for each block", blocks_do_not_fit),
    ("Resize", "`scales` or `sizes` have one element for each axis", sizes_do_not_fit),
    ("ScatterElements Scatter", "`updates` has the shape of `indices`", lambda n: n.shape(1) != n.shape(2)),
    ("ScatterND", "`updates` has one part for each index", lambda n: n.shape(2) != scattered_shape(n)),
    (
        "GridSample",
        "a place that is not finite is no place: the reference fails, and onnxruntime converts it to an integer",
        lambda n: is_not_finite(n.input(1)),
    ),
]
REFERENCE = [
    (
        "LSTM GRU RNN",
        "the reference ignores `activations`, `clip` and `input_forget`",
        lambda n: bool({"activations", "clip", "input_forget"} & set(n.attributes)),
    ),
    (
        "LogSoftmax",
        "the reference takes the logarithm of a softmax that has become 0",
        lambda n: is_wide(n.input(0)),
    ),
    ("LpNormalization", "the reference adds the numbers for p=1, and not their magnitudes", lambda n: n.get("p", 2) == 1),
    ("LpPool", "the reference leaves NaN out of a window: it marks its padding with NaN", lambda n: has_nan(n.input(0))),
    (
        "NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss",
        "the reference counts elements that are ignored by `ignore_index` -1",
        lambda n: n.get("ignore_index") == -1,
    ),
    (
        "OneHot",
        "the standard casts `depth` to INT64, and the reference uses it with its fraction",
        lambda n: has_fraction(n.input(1)),
    ),
    (
        "BlackmanWindow HammingWindow HannWindow",
        "the reference's rounding errors become errors of 1 when it cuts off the fraction",
        lambda n: n.get("output_datatype", 1) not in (1, 10, 11),
    ),
]
ONNXRUNTIME = [
    (
        "LogSoftmax",
        "by the standard's function a row with +inf becomes NaN, and onnxruntime gives -inf to the others",
        lambda n: bool(np.any(np.isposinf(n.input(0).astype(np.float64)))),
    ),
]
