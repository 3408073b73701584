"""The cases: every test of the `onnx` package that carries its data, and those of `ours.py`, as written and with constants.

A case is one model with its inputs and the expected outputs. Its key is the test's name, followed by `/constant` if every
input but the first is an initializer. This file does not know the server.
"""

import dataclasses
import fnmatch
import json
import pathlib

import numpy as np
import onnx
import onnx.backend.test.loader as loader
from onnx import TensorProto, numpy_helper

import ours

HERE = pathlib.Path(__file__).resolve().parent
# Kinds of tests in the package. `real` are whole networks whose weights are made by the model itself.
KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator", "real")
# Element types of ONNX that the protocol has a datatype for.
DATATYPES = {
    TensorProto.BOOL: "BOOL",
    TensorProto.UINT8: "UINT8",
    TensorProto.UINT16: "UINT16",
    TensorProto.UINT32: "UINT32",
    TensorProto.UINT64: "UINT64",
    TensorProto.INT8: "INT8",
    TensorProto.INT16: "INT16",
    TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64",
    TensorProto.FLOAT16: "FP16",
    TensorProto.FLOAT: "FP32",
    TensorProto.DOUBLE: "FP64",
    TensorProto.STRING: "BYTES",
}


class Exempt(Exception):
    """The case is not run. `kind` is `type` or `list`, `args[0]` is the reason."""

    def __init__(self, kind, reason):
        super().__init__(reason)
        self.kind = kind


@dataclasses.dataclass
class Case:
    key: str
    # The operator of a test of one node, otherwise the kind of the test.
    operator: str
    model: onnx.ModelProto
    # Inputs by name and datatype, and expected outputs likewise, a pair for each set of data.
    runs: list
    rtol: float
    atol: float


def tests():
    """All tests of the package, and ours, by name."""
    found = [test for kind in KINDS for test in loader.load_model_tests(kind=kind)] + ours.tests()
    return {test.name: test for test in sorted(found, key=lambda test: test.name)}


def keys(found):
    """Keys of the cases of these tests. Which of them can be made shows when they are made."""
    return [key for name in found for key in (name, f"{name}/constant")]


def exemptions():
    """Patterns of names that are not run, with the reason of each."""
    listed = json.loads((HERE / "exempt.json").read_text())
    return [(pattern, entry["reason"]) for entry in listed for pattern in entry["tests"]]


def make(key, test):
    """The case of this key, or None where the test has no such form. Raises Exempt."""
    name, _, constant = key.partition("/")
    model, sets = read(test)
    initial = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in initial]
    if constant and (len(inputs) < 2 or len(sets) != 1):
        return None
    for pattern, reason in exemptions():
        if fnmatch.fnmatchcase(name, pattern):
            raise Exempt("list", reason)
    if constant:
        for value in inputs[1:]:
            if not value.type.HasField("tensor_type"):
                raise Exempt("type", f"{described(value)} cannot be an initializer")
        model = with_constants(model, inputs[1:], sets[0][0][1:])
        inputs, sets = inputs[:1], [(sets[0][0][:1], sets[0][1])]
    for value in [*inputs, *model.graph.output]:
        if described(value) not in DATATYPES.values():
            raise Exempt("type", f"{described(value)} has no datatype in the protocol")
    runs = [(named(inputs, given), named(model.graph.output, wanted)) for given, wanted in sets]
    operator = model.graph.node[0].op_type if len(model.graph.node) == 1 else test.kind
    return Case(key, operator, model, runs, test.rtol, test.atol)


def described(value):
    """The datatype of an input or output, or in ONNX's words the type that the protocol has no datatype for."""
    kind = value.type.WhichOneof("value") or "tensor_type"
    if kind != "tensor_type":
        return kind.removesuffix("_type")
    element = value.type.tensor_type.elem_type
    return DATATYPES.get(element) or TensorProto.DataType.Name(element)


def named(values, arrays):
    """(name, datatype, array) of each."""
    if len(values) != len(arrays):
        raise ValueError(f"the test has {len(arrays)} tensors for {[value.name for value in values]}")
    plain = [numpy_helper.to_array(array) if isinstance(array, TensorProto) else array for array in arrays]
    return [(value.name, described(value), array) for value, array in zip(values, plain)]


def with_constants(model, values, arrays):
    """A copy of the model in which these inputs are initializers."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    names = {value.name for value in values}
    made.graph.initializer.extend(tensor(value, array) for value, array in zip(values, arrays))
    # Before version 4 of the format every initializer is an input as well.
    if made.ir_version >= 4:
        kept = [value for value in made.graph.input if value.name not in names]
        del made.graph.input[:]
        made.graph.input.extend(kept)
    return made


def tensor(value, array):
    """An initializer of the input's own element type."""
    if isinstance(array, TensorProto):
        made = TensorProto()
        made.CopyFrom(array)
        made.name = value.name
        return made
    return numpy_helper.from_array(np.asarray(array), value.name)


def read(test):
    """The model, and its sets of data: inputs and outputs in the order of the graph, as arrays."""
    if test.model is not None:
        return test.model, [tuple(map(list, pair)) for pair in test.data_sets]
    if test.url is not None:
        return read_light(test)
    folder = pathlib.Path(test.model_dir)
    model, sets = onnx.load(folder / "model.onnx"), []
    for data in sorted(folder.glob("test_data_set_*")):
        sets.append((read_values(data, "input", model.graph.input), read_values(data, "output", model.graph.output)))
    return model, sets


def read_values(folder, word, values):
    """Tensors of `input_0.pb` and so on; None for what is no tensor, which is exempt by its type."""
    made = []
    for value, at in zip(values, range(len(list(folder.glob(f"{word}_*.pb"))))):
        tensor = TensorProto()
        if value.type.HasField("tensor_type"):
            tensor.ParseFromString((folder / f"{word}_{at}.pb").read_bytes())
        made.append(numpy_helper.to_array(tensor) if value.type.HasField("tensor_type") else None)
    return made


def read_light(test):
    """A whole network of the package: its input is a ramp, as the package's own runner makes it."""
    path = pathlib.Path(loader.DATA_DIR, "light", pathlib.Path(test.url).name)
    model = onnx.load(path)
    initial = {tensor.name for tensor in model.graph.initializer}
    given, wanted = [], []
    for value in model.graph.input:
        if value.name not in initial:
            shape = [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
            count = int(np.prod(shape))
            given.append((np.arange(count).reshape(shape) / count).astype(np.float32))
    for at in range(len(model.graph.output)):
        tensor = TensorProto()
        tensor.ParseFromString(path.with_name(f"{path.stem}_output_{at}.pb").read_bytes())
        wanted.append(numpy_helper.to_array(tensor))
    return model, [(given, wanted)]
