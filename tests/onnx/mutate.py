"""Random variants of the tests of single nodes: other attributes, datatypes, lengths, values, and surroundings.

Not every variant is a valid model. `oracle.py` finds out: what neither onnxruntime nor the reference evaluator runs is not
a case. This file does not know the server.
"""

import dataclasses

import numpy as np
import onnx
from onnx import TensorProto, defs, helper, numpy_helper

import cases
import rules

LENGTHS = (0, 1, 1, 2, 3, 4, 5)
INTS = (0, 1, -1, 2, -2, 3)
FLOATS = (0.0, 0.01, 0.5, 1.0, 2.0, -0.5)
# Attributes that the standard lets be only 0 or 1.
FLAGS = set(
    """align_corners allowzero antialias ceil_mode center_point_box count_include_pad exclude_outside exclusive inverse
    fmod input_forget interleaved is_causal keepdims layout linear_before_reset noop_with_empty_axes onesided periodic reverse saturate
    select_last_index sorted largest storage_order training_mode upper detect_positive detect_negative case_action""".split()
)
# Their results are random, or need training.
SKIPPED = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Dropout"}
# Attributes that are numbers of datatypes.
TYPES = {"dtype", "output_datatype", "output_dtype", "precision", "softmax_precision", "stash_type", "to"}


@dataclasses.dataclass
class Seed:
    """A test of one node: its model and one set of inputs."""

    name: str
    model: onnx.ModelProto
    arrays: list


@dataclasses.dataclass
class Variant:
    key: str
    operator: str
    model: onnx.ModelProto
    # The inputs that are not constants: name and array.
    given: list
    # The node as the rules see it.
    node: rules.Node


def seeds(tests):
    """The tests whose graph is one node, with tensors that the protocol can carry."""
    found = []
    for name, test in tests.items():
        if test.kind != "node" or test.model is None or len(test.model.graph.node) != 1:
            continue
        node = test.model.graph.node[0]
        inputs = list(test.model.graph.input)
        plain = all(cases.described(value) in cases.DATATYPES.values() for value in [*inputs, *test.model.graph.output])
        if not plain or node.op_type in SKIPPED or not inputs or any(a.HasField("g") for a in node.attribute):
            continue
        try:
            _, sets = cases.read(test)
        except ValueError:
            continue
        arrays = [cases.numpy_helper.to_array(a) if isinstance(a, TensorProto) else np.asarray(a) for a in sets[0][0]]
        found.append(Seed(name, test.model, arrays))
    return found


def seen_attributes(found):
    """The values of each attribute in all tests: by operator and attribute."""
    seen = {}
    for seed in found:
        node = seed.model.graph.node[0]
        for attribute in node.attribute:
            seen.setdefault((node.op_type, attribute.name), []).append(helper.get_attribute_value(attribute))
    return seen


def variant(random, seed, seen, key):
    """One variant, or None when the operator has no schema."""
    model = onnx.ModelProto()
    model.CopyFrom(seed.model)
    node = model.graph.node[0]
    version = next((o.version for o in model.opset_import if o.domain in (node.domain, "ai.onnx" if not node.domain else "")), 1)
    try:
        schema = defs.get_schema(node.op_type, version, node.domain)
    except defs.SchemaError:
        return None
    arrays = {value.name: array for value, array in zip(model.graph.input, seed.arrays)}
    changes = [attributes, types, lengths, values, leave_out]
    for change in random.sample(changes, random.randint(1, 3)):
        change(random, node, schema, arrays, seen)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    seen_node = rules.of(node, version, schema, constants | arrays)
    surround(random, model, arrays)
    given = declare(random, model, arrays)
    return Variant(key, node.op_type, model, given, seen_node) if given else None


def attributes(random, node, schema, arrays, seen):
    """Sets attributes to other values than their defaults."""
    for name, attribute in schema.attributes.items():
        if random.random() < 0.5:
            continue
        known = seen.get((node.op_type, name), [])
        present = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        kind = attribute.type.name
        if name in FLAGS:
            value = random.choice((0, 1))
        elif name in TYPES:
            value = random.choice((TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, *known))
        elif kind == "INT":
            value = random.choice([*INTS, *known])
        elif kind == "FLOAT":
            value = random.choice([*FLOATS, *known])
        elif kind in ("STRING", "INTS", "FLOATS", "STRINGS") and known:
            value = random.choice(known)
            if kind == "INTS" and random.random() < 0.5:
                value = [random.choice((0, 1, 2, 3)) for _ in present.get(name, value)]
        else:
            continue
        for other in [a for a in node.attribute if a.name == name]:
            node.attribute.remove(other)
        if attribute.required or random.random() < 0.8:
            node.attribute.append(helper.make_attribute(name, value, attr_type=attribute.type.value))


def types(random, node, schema, arrays, seen):
    """Gives all inputs of one type parameter another type that it allows."""
    parameter = random.choice(list(schema.inputs)).type_str if schema.inputs else None
    allowed = next((c.allowed_type_strs for c in schema.type_constraints if c.type_param_str == parameter), None)
    names = {"tensor(float16)": np.float16, "tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(bool)": np.bool_}
    names |= {f"tensor({t})": np.dtype(t) for t in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")}
    possible = [names[t] for t in allowed or () if t in names]
    if not possible:
        return
    chosen = random.choice(possible)
    for at, name in enumerate(node.input):
        declared = schema.inputs[min(at, len(schema.inputs) - 1)]
        if name in arrays and declared.type_str == parameter and arrays[name].dtype.kind in "fiub":
            with np.errstate(all="ignore"):
                # A negative number would become a huge one.
                numbers = np.abs(arrays[name]) if np.dtype(chosen).kind == "u" and arrays[name].dtype.kind != "b" else arrays[name]
                arrays[name] = numbers.astype(chosen)


def lengths(random, node, schema, arrays, seen):
    """Gives axes of one length another length: all of them, or those of one input."""
    known = sorted({length for array in arrays.values() for length in array.shape})
    if not known:
        return
    old, new = random.choice(known), random.choice(LENGTHS)
    only = random.choice(list(arrays)) if random.random() < 0.3 else None
    for name, array in arrays.items():
        # A list of sizes or axes keeps its length: it is a parameter.
        is_parameter = array.ndim == 1 and array.dtype.kind == "i" and name != node.input[0]
        if only in (None, name) and not is_parameter and old in array.shape:
            shape = [new if length == old else length for length in array.shape]
            arrays[name] = np.resize(array, shape) if array.size else np.zeros(shape, array.dtype)


def values(random, node, schema, arrays, seen):
    """New values for floats, with infinities and NaN now and then."""
    generator = np.random.default_rng(random.getrandbits(32))
    for name, array in arrays.items():
        if array.dtype.kind == "f" and array.size and random.random() < 0.8:
            fresh = generator.standard_normal(array.shape) * random.choice((0.1, 1, 10, 100))
            if random.random() < 0.15:
                fresh.flat[int(generator.integers(fresh.size))] = random.choice((np.inf, -np.inf, np.nan))
            with np.errstate(all="ignore"):
                arrays[name] = np.asarray(fresh, array.dtype)


def leave_out(random, node, schema, arrays, seen):
    """Leaves out the last input, where it is optional."""
    at = len(node.input) - 1
    if 0 < at < len(schema.inputs) and schema.inputs[at].option == defs.OpSchema.FormalParameterOption.Optional:
        arrays.pop(node.input[at], None)
        del node.input[at]


def surround(random, model, arrays):
    """Puts what converters write in front of the node's first input, if it is of floats."""
    node = model.graph.node[0]
    name = node.input[0]
    domain_version = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    if name not in arrays or arrays[name].dtype != np.float32 or domain_version < 13 or random.random() < 0.5:
        return
    rank = arrays[name].ndim
    # A scalar has no axes to turn, and a list without elements has no type in `make_node`.
    kinds = ("cast", "transpose", "quantize", "shape") if rank else ("cast", "quantize", "shape")
    # The reference does not saturate what is infinite, or becomes so in half precision.
    if not np.all(np.abs(arrays[name]) < 60000):
        kinds = tuple(kind for kind in kinds if kind not in ("cast", "quantize"))
    kind, inner = random.choice(kinds), "surrounded"
    if kind == "cast":
        made = [helper.make_node("Cast", [name], ["half"], to=TensorProto.FLOAT16)]
        made.append(helper.make_node("Cast", ["half"], [inner], to=TensorProto.FLOAT))
    elif kind == "transpose":
        order = random.sample(range(rank), rank)
        back = [order.index(axis) for axis in range(rank)]
        made = [helper.make_node("Transpose", [name], ["turned"], perm=order)]
        made.append(helper.make_node("Transpose", ["turned"], [inner], perm=back))
    elif kind == "quantize":
        scale, zero = helper.make_tensor("scale", TensorProto.FLOAT, [], [0.05]), helper.make_tensor("zero", TensorProto.INT8, [], [3])
        model.graph.initializer.extend([scale, zero])
        made = [helper.make_node("QuantizeLinear", [name, "scale", "zero"], ["quantized"])]
        made.append(helper.make_node("DequantizeLinear", ["quantized", "scale", "zero"], [inner]))
    else:
        made = [helper.make_node("Shape", [name], ["dims"]), helper.make_node("Reshape", [name, "dims"], [inner])]
    node.input[0] = inner
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*made, *rest])


def declare(random, model, arrays):
    """Declares the inputs: some are constants, some lengths are open. Returns those that are not constants."""
    # Before version 4 of the format every initializer is an input as well.
    model.ir_version = max(model.ir_version, 4)
    names = [name for name in arrays if any(name in node.input for node in model.graph.node)]
    constants = {name for name in names[1:] if random.random() < 0.5}
    del model.graph.input[:]
    given = []
    # Some files name an open length by what it is, so that equal lengths have one name.
    is_shared = random.random() < 0.5
    for at, name in enumerate(names):
        array = arrays[name]
        if name in constants:
            model.graph.initializer.append(numpy_helper.from_array(array, name))
            continue
        # What is open beside the first input is mostly a batch: lists of sizes and weights have fixed lengths.
        often = 0.3 if at == 0 else 0.1
        opened = [random.random() < often for _ in array.shape]
        called = [f"n{length}" if is_shared else f"{name}_{axis}" for axis, length in enumerate(array.shape)]
        shape = [name if is_open else length for is_open, name, length in zip(opened, called, array.shape)]
        model.graph.input.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), shape))
        given.append((name, array))
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    return given
