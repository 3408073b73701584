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
    # The type parameter of each input in the schema.
    types: list
    # The type parameter of each output in the schema, and its datatype, which `oracle.py` finds; None where it is not known.
    output_types: list
    outputs: list

    def get(self, name, default=None):
        return self.attributes.get(name, default)

    def input(self, at):
        return self.inputs[at] if at < len(self.inputs) else None

    def shape(self, at):
        return None if self.input(at) is None else self.input(at).shape


def of(node, version, schema, arrays):
    """The node as the rules see it. `arrays` has the values of all inputs and constants by name."""
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    plain = {name: value.decode() if isinstance(value, bytes) else value for name, value in attributes.items()}
    formal = [schema.inputs[min(at, len(schema.inputs) - 1)] for at in range(len(node.input))]
    types = [one.type_str if one.is_homogeneous else None for one in formal]
    made = [schema.outputs[min(at, len(schema.outputs) - 1)].type_str for at in range(len(node.output))]
    # The outputs of the model are those that the node names.
    made = [kind for kind, name in zip(made, node.output) if name]
    inputs = [arrays.get(name) for name in node.input]
    return Node(node.op_type, version, plain, inputs, types, made, [None for _ in made])


def invalid(node):
    """Why the standard gives this node no result; None where it gives one."""
    types = {}
    for kind, array in zip(node.types, node.inputs):
        if kind and array is not None and types.setdefault(kind, array.dtype) != array.dtype:
            return f"{node.operator}: inputs of the type {kind} of the schema differ in type"
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


def out_of_range(node):
    """True when an index of a gather or scatter points outside of the data."""
    data, indices = node.shape(0), node.input(1)
    if node.operator in ("GatherND", "ScatterND"):
        first, count = node.get("batch_dims", 0), indices.shape[-1] if indices.ndim else 0
        lengths = data[first : first + count]
        return len(lengths) != count or bool(indices.size) and not is_within(indices, np.array(lengths))
    axis = node.get("axis", 0)
    if not -len(data) <= axis < len(data):
        return True
    return bool(indices.size) and not is_within(indices, data[axis])


def is_within(indices, length):
    return bool(np.all((indices >= -length) & (indices < length)))


def lengths_do_not_fit(node):
    lengths, shape = node.input(1), node.shape(0)
    time, batch = node.get("time_axis", 0), node.get("batch_axis", 1)
    return len(lengths) != shape[batch] or bool(np.any(lengths > shape[time]) or np.any(lengths < 0))


def writes_do_not_fit(node):
    cache, update, at = node.shape(0), node.shape(1), node.input(2)
    axis = node.get("axis", -2)
    if at is not None and len(at) != cache[0] or len(cache) != len(update):
        return True
    axis += len(cache) if axis < 0 else 0
    if any(a != b for place, (a, b) in enumerate(zip(cache, update)) if place != axis) or update[axis] > cache[axis]:
        return True
    # A circular cache starts again at its beginning; a linear one ends.
    last = cache[axis] - (0 if node.get("mode") == "circular" else update[axis])
    return at is not None and bool(np.any(at < 0) or np.any(at > last))


def length_is_open(node):
    shape, lengths = node.input(1), list(node.shape(0))
    if node.version < 5 or -1 not in shape:
        return False
    copies = not node.get("allowzero", 0)
    made = [lengths[at] if d == 0 and copies and at < len(lengths) else d for at, d in enumerate(shape)]
    return 0 in made


def tree_types_differ(node):
    kinds = [attribute.data_type for attribute in node.attributes.values() if hasattr(attribute, "data_type")]
    given = helper.np_dtype_to_tensor_dtype(node.input(0).dtype)
    # The modes are UINT8, and members of sets have the type of the input.
    return any(kind not in (given, 2) for kind in kinds)


def adds_halves(node):
    """True when a sum of squares in half precision overflows."""
    x = node.input(0)
    with np.errstate(all="ignore"):
        finite = x[np.isfinite(x)].astype(np.float64)
        return x.dtype == np.float16 and bool(np.sum(finite**2) > 60000 or np.abs(finite).sum() > 60000)


def edges_are_wrong(node):
    rate, low, high = (float(np.ravel(node.input(at))[0]) for at in (2, 3, 4))
    return not 0 <= low <= high <= rate / 2


def is_wide(array):
    """True when exp() of some number is nothing beside exp() of another one."""
    finite = array[np.isfinite(array)].astype(np.float64)
    return bool(finite.size and np.ptp(finite) > 16)


def sums_overflow(node):
    """True when a sum of integers, or of their squares, does not fit the type, or FP64 exactly."""
    numbers, power = node.input(0), 2 if node.operator == "ReduceL2" else 1
    if numbers.dtype.kind not in "iu":
        return False
    exact = sum(abs(int(x)) ** power for x in numbers.ravel())
    return exact > min(int(np.iinfo(numbers.dtype).max), 1 << 53)


def window_in_padding(node):
    kernel, pads = node.get("kernel_shape", ()), node.get("pads", ())
    if not pads or node.get("count_include_pad", 0):
        return False
    dilations = node.get("dilations", [1 for _ in kernel])
    extents = [(length - 1) * dilation + 1 for length, dilation in zip(kernel, dilations)]
    return any(pad >= extent for pad, extent in zip(pads, [*extents, *extents]))


def slope_is_larger(node):
    x, slope = node.shape(0), node.shape(1)
    return len(slope) > len(x) or any(s not in (1, d) for s, d in zip(reversed(slope), reversed(x)))


def condition_is_long(node):
    axis, shape = node.get("axis"), node.shape(0)
    return len(node.input(1)) > (node.input(0).size if axis is None else shape[axis])


def negative_padding(node):
    """True when `output_shape` of a transposed convolution asks for a padding below 0, so for more than its result."""
    if "output_shape" not in node.attributes or not node.get("auto_pad", "NOTSET").startswith("SAME"):
        return False
    kernel = node.get("kernel_shape") or node.shape(1)[2:]
    ones = [1 for _ in kernel]
    strides, dilations = node.get("strides") or ones, node.get("dilations") or ones
    more = node.get("output_padding") or [0 for _ in kernel]
    lengths = zip(node.shape(0)[2:], kernel, strides, dilations, more, node.get("output_shape")[-len(kernel) :])
    return any(s * (i - 1) + p + (k - 1) * d + 1 < o for i, k, s, d, p, o in lengths)


def has_fraction(array):
    return array is not None and array.dtype.kind == "f" and bool(np.any(array != np.trunc(array)))


def has_nan(array):
    return array is not None and array.dtype.kind == "f" and bool(np.any(np.isnan(array)))


def is_not_finite(array):
    return array is not None and array.dtype.kind == "f" and not np.all(np.isfinite(array))


def beyond_integers(numbers, kind):
    """True when an integer of this type cannot hold one of the floats, without its fraction."""
    target = helper.tensor_dtype_to_np_dtype(kind) if kind else np.dtype(np.float32)
    if target.kind not in "iu":
        return False
    limits, whole = np.iinfo(target), np.trunc(numbers.astype(np.float64))
    return not bool(np.all((whole >= float(limits.min)) & (whole <= float(limits.max))))


def scale_is_wrong(node):
    """True when a scale is not above 0. The scales are the input before `sizes`, or the last of `Upsample`."""
    at = 1 if node.operator == "Upsample" or node.version < 11 else 2
    scales = node.input(at)
    return scales is not None and bool(np.any(scales <= 0))


def is_far_below(node):
    """True when Gelu is small for every number."""
    x = node.input(0)
    return bool(x.size and np.all(x < -3))


def target_does_not_fit(node):
    scores, target = node.shape(0), node.shape(1)
    return scores[:1] + scores[2:] != target


def stop_word_in_other_case(node):
    """True when a text is a stop word in another case, where the case is ignored and not changed."""
    stops = [word.decode() for word in node.get("stopwords", ())]
    if node.get("is_case_sensitive", 0) or node.get("case_change_action", "NONE") != "NONE":
        return False
    lower = {word.lower() for word in stops}
    return any(text not in stops and text.lower() in lower for text in node.input(0).ravel())


TRANSFORMED = "the reference ignores `post_transform`, and onnxruntime counts its values in another order than the standard"
CANCELLED = "1 + erf(x) loses most digits where erf(x) is near -1"
# Operators, reason, condition.
INVALID = [
    (
        "Gather GatherElements GatherND Scatter ScatterElements ScatterND",
        "it is an error if an index is out of range",
        out_of_range,
    ),
    ("ReverseSequence", "there is a length from 0 to the number of steps for each sequence", lengths_do_not_fit),
    ("TensorScatter", "`past_cache`, `update` and `write_indices` fit together", writes_do_not_fit),
    ("TreeEnsemble", "numbers in attributes have the type of the input", tree_types_differ),
    ("DFT STFT", "what is not finite depends on the order of the sum", lambda n: any(map(is_not_finite, n.inputs))),
    (
        "MaxPool AveragePool",
        "the standard does not say what a window without elements becomes, and onnxruntime refuses it",
        window_in_padding,
    ),
    ("FlexAttention Attention", "the root of `scale` is taken", lambda n: n.get("scale", 1.0) < 0),
    (
        "LSTM GRU RNN",
        "the standard does not say what a limit or Relu makes of NaN, which infinite numbers become",
        lambda n: any(map(is_not_finite, n.inputs)),
    ),
    (
        "Cast CastLike",
        "the standard does not say which integer a float becomes that does not fit",
        lambda n: n.input(0).dtype.kind == "f" and beyond_integers(n.input(0), n.outputs[0]),
    ),
    (
        "Resize Upsample",
        "scales are above 0",
        scale_is_wrong,
    ),
    ("LSTM GRU RNN", "`clip` is a threshold, 0 or more", lambda n: n.get("clip", 0.0) < 0),
    ("Mod Div", "an integer is not divided by 0", lambda n: n.input(1).dtype.kind in "iu" and not np.all(n.input(1))),
    ("PRelu", "`slope` is broadcast to the input, not the input to `slope`", slope_is_larger),
    (
        "InstanceNormalization BatchNormalization GroupNormalization",
        "there is one scale and one bias for each channel",
        lambda n: n.shape(1) != n.shape(0)[1:2] or n.shape(2) != n.shape(0)[1:2],
    ),
    (
        "Split",
        "without `split` and `num_outputs` all parts are equal",
        lambda n: not any((n.get("split"), n.get("num_outputs"))) and n.input(1) is None and n.shape(0)[n.get("axis", 0)] % len(n.outputs),
    ),
    ("Reshape", "a length -1 beside a length 0 has no meaning", length_is_open),
    (
        "Conv ConvTranspose",
        "the standard does not say whether padding is multiplied with what is infinite",
        lambda n: is_not_finite(n.input(1)),
    ),
    (
        "Resize",
        "the standard does not say whether what is infinite is multiplied with 0",
        lambda n: is_not_finite(n.input(0)) and n.get("mode", "nearest") != "nearest",
    ),
    (
        "FlexAttention Attention",
        "queries, keys and values have one batch",
        lambda n: not n.shape(0)[:1] == n.shape(1)[:1] == n.shape(2)[:1],
    ),
    (
        "NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss",
        "the target has the shape of the scores without the classes",
        target_does_not_fit,
    ),
    (
        "LinearAttention",
        "queries, keys and values have one batch and one length",
        lambda n: not n.shape(0)[:2] == n.shape(1)[:2] == n.shape(2)[:2],
    ),
    (
        "TreeEnsemble",
        "what says whether a branch is a leaf is 0 or 1",
        lambda n: not {*n.get("nodes_trueleafs"), *n.get("nodes_falseleafs")} <= {0, 1},
    ),
    (
        "QLinearMatMul QLinearConv QuantizeLinear DequantizeLinear",
        "a scale is a finite number, and not 0",
        lambda n: any(a is not None and a.dtype.kind == "f" and (is_not_finite(a) or not np.all(a)) for a in n.inputs[1:]),
    ),
    ("StringNormalizer", "its input has the shape [C] or [1, C]", lambda n: n.input(0).ndim > 1 and n.shape(0)[0] != 1),
    (
        "StringNormalizer",
        "the standard does not say what no text becomes without stop words, and onnxruntime refuses it",
        lambda n: n.input(0).size == 0,
    ),
    ("Compress", "`condition` is at most as long as the axis", condition_is_long),
    ("MaxUnpool", "there is an index for each element", lambda n: n.shape(0) != n.shape(1)),
    ("RoiAlign", "there is a batch index for each region", lambda n: n.shape(1)[:1] != n.shape(2)),
    (
        "NonMaxSuppression",
        "`iou_threshold` is from 0 to 1",
        lambda n: n.input(3) is not None and not np.all((n.input(3) >= 0) & (n.input(3) <= 1)),
    ),
    (
        "LSTM GRU RNN",
        "the standard has no default for the parameters of Affine and ScaledTanh",
        lambda n: {b"Affine", b"ScaledTanh"} & set(n.get("activations", ())) and not {"activation_alpha", "activation_beta"} <= set(n.attributes),
    ),
    ("Celu", "`alpha` divides", lambda n: n.get("alpha", 1.0) == 0),
    (
        "ReduceL2 ReduceMean",
        "the standard does not say what becomes of a sum of integers that does not fit, nor in what type it is made",
        sums_overflow,
    ),
    ("AffineGrid", "`theta` and `size` have the same N", lambda n: n.shape(0)[0] != n.input(1)[0]),
    ("DynamicQuantizeLinear", "nothing and NaN have no minimum", lambda n: n.input(0).size == 0 or is_not_finite(n.input(0))),
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
    ("TreeEnsemble", TRANSFORMED, lambda n: n.get("post_transform", 0) != 0),
    (
        "LSTM GRU RNN",
        "the reference ignores `activations`, `clip` and `input_forget`",
        lambda n: bool({"activations", "clip", "input_forget"} & set(n.attributes)),
    ),
    (
        "Attention",
        "version 23 broadcasts a mask, and the reference masks all keys but the first if it has one column",
        lambda n: n.version < 24 and n.input(3) is not None and n.shape(3)[-1:] == (1,),
    ),
    (
        "LogSoftmax SoftmaxCrossEntropyLoss",
        "the reference takes the logarithm of a softmax that has become 0",
        lambda n: is_wide(n.input(0)),
    ),
    (
        "LRN LpPool ReduceMean ReduceSum ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum ReduceLogSumExp ReduceProd",
        "the reference adds in half precision, and its sum overflows",
        adds_halves,
    ),
    (
        "MaxPool",
        "the reference's indices without strides count within one channel, and ignore `storage_order`",
        lambda n: len(n.outputs) > 1,
    ),
    (
        "MaxPool",
        "the reference's pool without strides takes `pads` in another order, and counts them twice with `ceil_mode`",
        lambda n: any(n.get("pads", ())) and set(n.get("strides", (1,))) == {1} and (n.get("ceil_mode", 0) or len(set(n.get("pads"))) > 1),
    ),
    (
        "Resize",
        "the reference multiplies what is infinite by 0",
        lambda n: is_not_finite(n.input(0)) and n.get("mode", "nearest") == "nearest",
    ),
    (
        "Unique",
        "the reference's unsorted result is turned along every axis but the first",
        lambda n: n.get("sorted", 1) == 0 and n.get("axis", 0) not in (0, -n.input(0).ndim),
    ),
    (
        "QLinearMatMul",
        "the reference multiplies scales in half precision",
        lambda n: any(a is not None and a.dtype == np.float16 for a in n.inputs),
    ),
    (
        "QuantizeLinear",
        "the reference converts infinite numbers to integers before it saturates them",
        lambda n: is_not_finite(n.input(0)) or n.get("precision") == 10 and bool(np.any(np.abs(n.input(0).astype(float)) > 60000)),
    ),
    ("Gelu", CANCELLED, is_far_below),
    (
        "ConvTranspose",
        "the reference does not count `output_padding` in the padding that `output_shape` needs",
        lambda n: {"output_shape", "output_padding"} <= set(n.attributes),
    ),
    (
        "ConvTranspose",
        "the reference rounds the half of a padding below 0 down, and the standard's division rounds toward 0",
        negative_padding,
    ),
    ("LpNormalization", "the reference adds the numbers for p=1, and not their magnitudes", lambda n: n.get("p", 2) == 1),
    ("LpPool AveragePool", "the reference leaves NaN out of a window: it marks its padding with NaN", lambda n: has_nan(n.input(0))),
    (
        "NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss",
        "the reference counts elements that are ignored by `ignore_index` -1",
        lambda n: n.get("ignore_index") == -1,
    ),
    (
        "OneHot",
        "the standard casts `depth` and `indices` to INT64, and the reference does not; and it multiplies with `values`",
        lambda n: has_fraction(n.input(1)) or n.input(0).dtype.kind == "f" or is_not_finite(n.input(2)),
    ),
    (
        "StringNormalizer",
        "the reference finds stop words without regard to their case only if it changes the case",
        stop_word_in_other_case,
    ),
    (
        "BlackmanWindow HammingWindow HannWindow",
        "the reference's rounding errors become errors of 1 when it cuts off the fraction",
        lambda n: n.get("output_datatype", 1) not in (1, 10, 11),
    ),
]
ONNXRUNTIME = [
    ("TreeEnsemble", TRANSFORMED, lambda n: n.get("post_transform", 0) != 0),
    ("Gelu", CANCELLED, is_far_below),
    (
        "MaxUnpool",
        "onnxruntime counts indices in `output_shape`, and the standard's test counts them in the shape without it",
        lambda n: n.input(2) is not None,
    ),
    (
        "LogSoftmax",
        "by the standard's function a row with +inf becomes NaN, and onnxruntime gives -inf to the others",
        lambda n: bool(np.any(np.isposinf(n.input(0).astype(np.float64)))),
    ),
]
