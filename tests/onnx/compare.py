"""Compares the server's answer with those of the reference and of onnxruntime."""

import numpy as np
from onnx import TensorProto, helper

import cases
import rules
from outcome import Outcome

# Relative to the largest value of an output, and to each value.
TOLERANCES = {"FP16": 4e-3, "FP32": 1e-4, "FP64": 1e-7}


def set_outputs(model, wanted):
    """Declares the outputs with the datatypes that they have. False when the protocol has none for one of them."""
    for output, array in zip(model.graph.output, wanted):
        if array.dtype.kind in "OUS":
            output.type.tensor_type.elem_type = 8
            continue
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        if kind not in cases.DATATYPES:
            return False
        output.type.tensor_type.elem_type = kind
    return len(wanted) == len(model.graph.output)


def trusted(node, reference, other):
    """The outputs of the reference and of onnxruntime that are right by `rules`, and why none is compared or None."""
    if reason := rules.invalid(node):
        return None, None, reason
    reasons = []
    reference = reference and [rounded(array, kind) for array, kind in zip(reference, node.outputs)]
    if reference is not None and (reason := rules.reference_is_wrong(node) or other_datatype(node, reference)):
        reference = reasons.append(reason)
    if other is not None and (reason := rules.onnxruntime_is_wrong(node) or other_datatype(node, other)):
        other = reasons.append(reason)
    return reference, other, "; ".join(reasons) if reference is None and other is None else None


def rounded(array, kind):
    """An output of the reference in FP32 where the schema says so, and the reference gives it in FP64."""
    return array.astype(np.float32) if kind == TensorProto.FLOAT and array.dtype == np.float64 else array


def other_datatype(node, outputs):
    """Says where the outputs do not have the datatypes of the operator's schema."""
    for array, kind in zip(outputs, node.outputs):
        if kind and array.dtype.kind not in "OUS" and helper.np_dtype_to_tensor_dtype(array.dtype) != kind:
            return f"{node.operator}: the reference or onnxruntime gives another datatype than the schema"
    return None


def judged(server, model, case):
    """The outcome of a case. `case.expected` has the outputs of the reference and of onnxruntime."""
    answer = server.ask(model, case.runs[0][0])
    names = [output.name for output in case.model.graph.output]
    differences = [difference(answer, names, wanted, coarsest(case)) for wanted in case.expected]
    reference, other = case.expected
    if reference is not None and differences[0] is None or reference is None and differences[1] is None:
        return Outcome("right", operator=case.operator)
    if other is not None and differences[1] is None:
        return Outcome("other", "as onnxruntime", differences[0] or "", case.operator)
    told = "; ".join(f"{who}: {what}" for who, what in zip(("reference", "onnxruntime"), differences) if what)
    return Outcome("wrong", "other values", told, case.operator)


def coarsest(case):
    """The largest tolerance of the inputs' datatypes: the reference computes in half precision when one input has it."""
    numbers = [tensor.data_type for tensor in case.model.graph.initializer]
    # The type in which a node computes.
    numbers += [a.i for node in case.model.graph.node for a in node.attribute if a.name in ("softmax_precision", "stash_type")]
    kinds = [datatype for _, datatype, _ in case.runs[0][0]] + [cases.DATATYPES.get(number) for number in numbers]
    return max([TOLERANCES.get(kind, 0) for kind in kinds], default=0)


def difference(answer, names, wanted, tolerance):
    """What differs, or None when nothing does. `tolerance` is the least one."""
    if wanted is None:
        return "it does not run there"
    for name, array in zip(names, wanted):
        datatype, came = answer[name]
        if array.dtype.kind in "OUS":
            expected_type = "BYTES"
        else:
            expected_type = cases.DATATYPES.get(helper.np_dtype_to_tensor_dtype(array.dtype))
        if datatype != expected_type:
            return f"{name} is {datatype}, expected {expected_type}"
        if came.shape != array.shape:
            return f"{name} has the shape {list(came.shape)}, expected {list(array.shape)}"
        same = equal(came, array, datatype, tolerance)
        if not np.all(same):
            at = np.unravel_index(np.argmin(same), array.shape)
            return f"{name}{[int(index) for index in at]} is {came[at]!r}, expected {array[at]!r}"
    return None


def equal(came, wanted, datatype, least):
    if datatype == "BYTES":
        texts = [text.decode() if isinstance(text, bytes) else str(text) for text in wanted.ravel()]
        return np.reshape(came.ravel() == np.array(texts, dtype=object), wanted.shape)
    if datatype not in TOLERANCES:
        return came == wanted
    with np.errstate(all="ignore"):
        finite = np.abs(wanted[np.isfinite(wanted)].astype(np.float64))
        most = finite.max() if finite.size else 0.0
        tolerance = max(least, TOLERANCES[datatype])
        return np.isclose(came.astype(np.float64), wanted.astype(np.float64), 10 * tolerance, tolerance * most + 1e-9, True)
