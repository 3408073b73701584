"""The expected outputs of a variant: those of onnxruntime without optimisations, and of the reference evaluator of `onnx`.

Both run in a process of their own, with ONNX's inference of types: each of them can crash on what is not a valid model.
"""

import multiprocessing
import signal

import numpy as np
import onnx
from onnx import helper

# Seconds for one variant.
TIME = 5


def expected(variants):
    """For each variant, the outputs by (reference, onnxruntime); None for one that fails. Declares the outputs' datatypes."""
    results, at = [], 0
    context = multiprocessing.get_context("fork")
    while at < len(variants):
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(variants[at:], there), daemon=True)
        process.start()
        there.close()
        before = len(results)
        try:
            while len(results) < len(variants):
                kinds, *outputs = here.recv()
                variant = variants[len(results)]
                variant.node.outputs = kinds
                results.append(outputs)
        except EOFError:
            pass
        process.join()
        if len(results) < len(variants):
            # The process ended in the middle of this one.
            results.append((None, None))
        at = max(len(results), before + 1)
    return results


def work(variants, there):
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    for variant in variants:
        kinds = datatypes(variant)
        for output, kind in zip(variant.model.graph.output, kinds):
            if kind:
                output.type.tensor_type.elem_type = kind
        there.send((kinds, limited(by_reference, variant), limited(by_onnxruntime, variant)))
    there.close()


def datatypes(variant):
    """The datatypes that the outputs have by the schema; None for one that is not known.

    ONNX's inference does not always follow the schema, so it is asked only where the schema leaves the datatype open.
    """
    found = inferred(variant.model)
    typed = {kind: array for kind, array in zip(variant.node.types, variant.node.inputs) if array is not None}
    for at, kind in enumerate(variant.node.output_types[: len(found)]):
        array = typed.get(kind)
        if array is not None and array.dtype.kind in "fiub":
            found[at] = helper.np_dtype_to_tensor_dtype(array.dtype)
    return found


def inferred(model):
    """The datatypes of the outputs that ONNX's inference finds; None where it finds none."""
    without = onnx.ModelProto()
    without.CopyFrom(model)
    for output in without.graph.output:
        output.type.tensor_type.ClearField("elem_type")
    try:
        outputs = onnx.shape_inference.infer_shapes(without).graph.output
    except onnx.shape_inference.InferenceError:
        outputs = without.graph.output
    return [output.type.tensor_type.elem_type or None for output in outputs]


def limited(run, variant):
    """The outputs, or None when the run fails or takes too long."""

    def late(*_):
        raise TimeoutError

    signal.signal(signal.SIGALRM, late)
    signal.alarm(TIME)
    try:
        with np.errstate(all="ignore"):
            outputs = [np.asarray(output) for output in run(variant)]
        return outputs if all(output.dtype.kind in "fiubOUS" for output in outputs) else None
    except Exception:  # noqa: BLE001 - whatever it is, this is not a valid model
        return None
    finally:
        signal.alarm(0)


def by_reference(variant):
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(variant.model).run(None, dict(variant.given))


def by_onnxruntime(variant):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(variant.model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(variant.given))
