"""Converts models of the zoo to FP16 and to 8 bits with onnxruntime's own tools, and makes a zoo of the results.

    python tests/zoo/converted.py ZOO_DIR        (after fetch.py)

It writes ZOO_DIR/converted/<model>-<kind>/ with model.onnx, model.json, share.txt (the tolerance) and cases/ (see
../models/oracle.py). The cases have the inputs of the model that is converted; expected is what onnxruntime makes of the
converted model, without its optimisations. It stops when a tool fails that is not in TOOLS_FAIL.

About the tolerance. A converted model rounds after every layer. Two programs that add in another order get sums that differ
in the last place, and where such a sum is on the border between two steps of 8 bits, one rounds up and the other down. So
in deep models a few numbers differ by whole steps, and the layers behind them carry that on. onnxruntime differs from
itself in the same way: by up to 28 % (of the sum of an output) with and without its optimisations, and by up to 16 % when
the inputs change by a millionth. So the differences are compared as a share of the sum of an output. Models of a few layers
are exact.
"""

import json
import logging
import re
import shutil
import struct
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnxruntime import quantization
from onnxruntime.quantization import QuantFormat, QuantType
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16
from tokenizers import Tokenizer

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent / "models"))
import oracle  # noqa: E402

SENTENCES = ["A typed sentence becomes a vector.", "How old are you?", "Naïve café owners pay 3.14 € for tickets!"]


def parse(path):
    """The inputs of a request: name -> array."""
    content = path.read_bytes()
    length = struct.unpack_from("<I", content)[0]
    tensors, at = {}, 4 + length
    kinds = {name: kind for kind, name in oracle.DATATYPES.items()}
    for part in json.loads(content[4:at])["inputs"]:
        size = part["parameters"]["binary_data_size"]
        flat = np.frombuffer(content[at : at + size], kinds[part["datatype"]])
        tensors[part["name"]] = flat.reshape(part["shape"])
        at += size
    return tensors


def models(zoo):
    """name -> the file, model.json without its name, and the inputs of each case."""
    for name in ["ocr-cls", "ocr-det", "ocr-rec", "silero-vad", "silero-vad-sr", "magika"]:
        folder = zoo / name
        cases = {p.name.removesuffix(".request.bin"): parse(p) for p in sorted(folder.glob("cases/*.request.bin"))}
        yield name, folder / "model.onnx", json.loads((folder / "model.json").read_text()), dict(list(cases.items())[:3])
    images = np.fromfile(ROOT / "tests" / "data" / "digits-heldout.bin", dtype=np.uint8).reshape(-1, 785)[:, 1:]
    images = (images.astype(np.float32) / np.float32(255)).reshape(-1, 1, 28, 28)
    cases = {f"digits-{at}": {"image": images[at : at + 4]} for at in [0, 4, 8]}
    yield "digits", ROOT / "model" / "digits" / "model.onnx", {}, cases
    folder = zoo / "minilm-l3"
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    names = [i.name for i in oracle.session(folder / "model.onnx").get_inputs()]
    cases = {}
    for at, sentence in enumerate(SENTENCES):
        given = oracle.tokens(tokenizer, [sentence], 32)
        cases[f"sentence-{at}"] = {name: given[name] for name in names}
    yield "minilm-l3", folder / "model.onnx", {}, cases


class Calibration(quantization.CalibrationDataReader):
    def __init__(self, cases):
        self.cases = iter(cases)

    def get_next(self):
        return next(self.cases, None)


def half(keep_io):
    def convert(source, target, _):
        onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=keep_io), target)

    return convert


def dynamic(**options):
    def convert(source, target, _):
        quantization.quantize_dynamic(source, target, **options)

    return convert


def static(form, activations, weights, **options):
    def convert(source, target, cases):
        quantization.quantize_static(
            source,
            target,
            Calibration(cases),
            quant_format=form,
            activation_type=activations,
            weight_type=weights,
            **options,
        )

    return convert


S8, U8, S16, U16 = QuantType.QInt8, QuantType.QUInt8, QuantType.QInt16, QuantType.QUInt16
QDQ, OPERATORS = QuantFormat.QDQ, QuantFormat.QOperator
KINDS = {
    "fp16": half(True),
    "fp16-io": half(False),
    "dynamic-s8": dynamic(weight_type=S8),
    "dynamic-u8": dynamic(weight_type=U8),
    "dynamic-s8-channel": dynamic(weight_type=S8, per_channel=True),
    "dynamic-s8-7bit": dynamic(weight_type=S8, reduce_range=True),
    "qdq-s8s8": static(QDQ, S8, S8),
    "qdq-u8s8-channel": static(QDQ, U8, S8, per_channel=True),
    "qdq-u8u8": static(QDQ, U8, U8),
    "qdq-u16s8": static(QDQ, U16, S8),
    "qop-u8s8": static(OPERATORS, U8, S8),
    "qop-u8u8": static(OPERATORS, U8, U8),
    "qop-s8s8-channel": static(OPERATORS, S8, S8, per_channel=True),
}


# What the tools cannot make, with what they say or what onnxruntime says of the result.
TOOLS_FAIL = {
    # A `DequantizeLinear` with an axis needs operator set 13.
    "ocr-cls-qdq-u8s8-channel": "INVALID_GRAPH",
    "ocr-det-qdq-u8s8-channel": "INVALID_GRAPH",
    "ocr-rec-qdq-u8s8-channel": "INVALID_GRAPH",
    # A weight with one axis.
    "magika-qdq-u8s8-channel": "truth value of an array",
    "magika-qop-s8s8-channel": "truth value of an array",
}

# The network is inside `If`, where the tools quantize nothing.
ONLY_HALF = ["silero-vad-sr"]


def share(name, kind):
    """The tolerance: see above."""
    if not name.startswith(("digits", "silero")):
        # Signed steps on both sides: half as many steps for numbers that are never negative.
        return 2e-1 if kind == "qdq-s8s8" else 5e-2
    return 3e-3 if kind.startswith("fp16") else 2e-5


# Operators that multiply 8-bit numbers: where the first factor's zero point, the second factor and its zero point are.
INTEGER_PRODUCTS = {
    "ConvInteger": (2, 1, 3),
    "MatMulInteger": (2, 1, 3),
    "QGemm": (2, 3, 5),
    "QLinearConv": (2, 3, 5),
    "QLinearMatMul": (2, 3, 5),
}


def unsigned(model):
    """The model with UINT8 weights where UINT8 numbers are multiplied by constant INT8 weights.

    Weights and zero points are larger by 128, so the products are the same. On x86 without VNNI, onnxruntime adds pairs
    of UINT8 times INT8 in 16 bits, where large sums are cut off: its answers would then depend on the machine.
    (`session.x64quantprecision` makes the same change, but only with optimisations.)"""
    graph = model.graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}

    def moved(name):
        if f"{name}.unsigned" not in constants:
            constants[f"{name}.unsigned"] = (constants[name].astype(np.int16) + 128).astype(np.uint8)
            graph.initializer.append(onnx.numpy_helper.from_array(constants[f"{name}.unsigned"], f"{name}.unsigned"))
        return f"{name}.unsigned"

    for node in graph.node:
        if node.op_type not in INTEGER_PRODUCTS:
            continue
        first_zero, weights, zero = INTEGER_PRODUCTS[node.op_type]
        inputs = list(node.input) + [""] * (zero + 1 - len(node.input))
        signed = constants.get(inputs[weights], np.uint8()).dtype == np.int8
        if not signed or constants.get(inputs[first_zero], np.uint8()).dtype == np.int8:
            continue
        if not inputs[zero]:
            inputs[zero] = f"{inputs[weights]}.zero"
            constants[inputs[zero]] = np.zeros((), np.int8)
        inputs[weights], inputs[zero] = moved(inputs[weights]), moved(inputs[zero])
        del node.input[:]
        node.input.extend(inputs)
    return model


def make(folder, name, kind, source, manifest, cases):
    constants = {key: np.array(value, np.int64) for key, value in manifest.get("parameters", {}).items()}
    oracle.fresh(folder)
    KINDS[kind](source, folder / "model.onnx", [{**inputs, **constants} for inputs in cases.values()])
    model = unsigned(onnx.load(folder / "model.onnx"))
    sess = oracle.session(model.SerializeToString())
    halves = {i.name for i in sess.get_inputs() if i.type == "tensor(float16)"}
    for case, inputs in cases.items():
        inputs = {key: value.astype(np.float16) if key in halves else value for key, value in inputs.items()}
        oracle.write_case(folder / "cases", case, inputs, oracle.run(sess, {**inputs, **constants}))
    manifest = {key: value for key, value in manifest.items() if key not in ["name", "outputs"]}
    inputs = [dict(part, datatype="FP16") if part["name"] in halves else part for part in manifest.get("inputs", [])]
    manifest.update({"name": folder.name, "file": "model.onnx", **({"inputs": inputs} if inputs else {})})
    (folder / "model.json").write_text(json.dumps(manifest) + "\n")
    (folder / "share.txt").write_text(f"{share(name, kind):g}\n")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    logging.disable(logging.WARNING)
    zoo = Path(sys.argv[1])
    out = oracle.fresh(zoo / "converted")
    for name, source, manifest, cases in models(zoo):
        with tempfile.TemporaryDirectory() as scratch:
            prepared = Path(scratch, "model.onnx")
            quant_pre_process(source, prepared, skip_symbolic_shape=True)
            for kind in KINDS:
                if name in ONLY_HALF and not kind.startswith("fp16"):
                    continue
                folder = out / f"{name}-{kind}"
                try:
                    make(folder, name, kind, source if kind.startswith("fp16") else prepared, manifest, cases)
                except Exception as error:
                    if TOOLS_FAIL.get(folder.name, "\0") not in str(error):
                        raise
                    shutil.rmtree(folder)
                    continue
                nodes = onnx.load(folder / "model.onnx").graph.node
                operators = sorted({node.op_type for node in nodes if re.search("Q|Integer|uantize", node.op_type)})
                print(f"{folder.name}: {len(nodes)} nodes, {', '.join(operators) or 'FP16'}", flush=True)


if __name__ == "__main__":
    main()
