"""Makes models with random weights, of which only the cost matters, and single operators.

    python benches/models.py FOLDER [NAME...]        (needs numpy, onnx and onnxruntime)

It writes FOLDER/<name>.onnx. Each network is also written as onnxruntime's own tools convert it: `-fp16`, `-dynamic`
(quantize_dynamic), `-qdq` and `-qop` (quantize_static). With names, it writes only these models. A file that is there is not
made again.
"""

import logging
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization
from onnxruntime.quantization import QuantFormat
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16

RNG = np.random.default_rng(0)
FP32 = TensorProto.FLOAT


def weights(*shape, inputs):
    """Numbers that keep the size of what they are multiplied with: `inputs` of them are added."""
    return (RNG.standard_normal(shape) / inputs**0.5).astype(np.float32)


class Graph:
    """A graph with one input `x`, node after node."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def constant(self, value):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def add(self, operator, *inputs, **attributes):
        """Adds a node. Gives the name of its first output."""
        name = f"t{len(self.nodes)}"
        outputs = [name, f"{name}.indices"] if operator == "TopK" else [name]
        self.nodes.append(helper.make_node(operator, list(inputs), outputs, **attributes))
        return name

    def save(self, path, shape, output):
        graph = helper.make_graph(
            self.nodes,
            path.stem,
            [helper.make_tensor_value_info("x", FP32, shape)],
            [helper.make_tensor_value_info(output, FP32, None)],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(onnx.shape_inference.infer_shapes(model), path)

    def activate(self, x, kind):
        if kind == "SiLU":
            return self.add("Mul", x, self.add("Sigmoid", x))
        return self.add(kind, x) if kind else x

    def conv(self, x, read, made, kernel=3, stride=1, groups=1, activation="Relu", dilation=1, axes=2):
        filters = weights(made, read // groups, *[kernel] * axes, inputs=read // groups * kernel**axes)
        bias = self.constant(weights(made, inputs=100))
        padding = [dilation * (kernel // 2)] * 2 * axes
        x = self.add(
            "Conv", x, self.constant(filters), bias, kernel_shape=[kernel] * axes, strides=[stride] * axes,
            dilations=[dilation] * axes, pads=padding, group=groups,
        )  # fmt: skip
        return self.activate(x, activation)

    def pool(self, x, kernel, stride, padding=0):
        return self.add("MaxPool", x, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[padding] * 4)

    def classes(self, x, read, count=1000):
        x = self.add("Flatten", self.add("GlobalAveragePool", x))
        return self.add("Gemm", x, self.constant(weights(read, count, inputs=read)), self.constant(weights(count, inputs=9)))

    def twice(self, x):
        scales = self.constant(np.array([1, 1, 2, 2], np.float32))
        return self.add(
            "Resize", x, "", scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
        )

    def layer(self, x, read, made):
        product = self.add("MatMul", x, self.constant(weights(read, made, inputs=read)))
        return self.add("Add", product, self.constant(weights(made, inputs=100)))


def resnet(blocks, is_deep):
    """ResNet-18 and its like, or with three convolutions a block ResNet-50."""

    def build(g):
        x, read = g.pool(g.conv("x", 3, 64, 7, 2), 3, 2, 1), 64
        for level, count in enumerate(blocks):
            width = 64 << level
            made = width * 4 if is_deep else width
            for at in range(count):
                stride = 2 if level and not at else 1
                if is_deep:
                    y = g.conv(g.conv(x, read, width, 1), width, width, 3, stride)
                    y = g.conv(y, width, made, 1, activation=None)
                else:
                    y = g.conv(g.conv(x, read, width, 3, stride), width, made, activation=None)
                shortcut = x if read == made and stride == 1 else g.conv(x, read, made, 1, stride, activation=None)
                x, read = g.add("Relu", g.add("Add", y, shortcut)), made
        return g.classes(x, read)

    return [1, 3, 224, 224], build


def mobile(activation, kernel, gates):
    """A MobileNet-like net, or with gates over channels an EfficientNet-like one."""

    def build(g):
        x, read = g.conv("x", 3, 16, 3, 2, activation=activation), 16
        for made, stride, count in [(24, 2, 2), (40, 2, 3), (80, 2, 4), (160, 2, 3)]:
            for at in range(count):
                width = read * 4
                y = g.conv(x, read, width, 1, activation=activation)
                y = g.conv(y, width, width, kernel, stride if not at else 1, width, activation)
                if gates:
                    gate = g.conv(g.add("GlobalAveragePool", y), width, width // 8, 1, activation=activation)
                    y = g.add("Mul", y, g.conv(gate, width // 8, width, 1, activation="Sigmoid"))
                y = g.conv(y, width, made, 1, activation=None)
                x, read = (g.add("Add", x, y) if read == made and at else y), made
        return g.classes(x, read)

    return [1, 3, 224, 224], build


def unet(g):
    x, read, levels = "x", 3, []
    for made in (16, 32, 64):
        x = g.conv(x, read, made, activation="SiLU")
        levels.append((x, made))
        x, read = g.pool(x, 2, 2), made
    x, read = g.conv(x, 64, 128, activation="SiLU"), 128
    for skipped, made in reversed(levels):
        x, read = g.conv(g.add("Concat", g.twice(x), skipped, axis=1), read + made, made, activation="SiLU"), made
    return g.add("Softmax", g.conv(x, 16, 8, 1, activation=None), axis=1)


def detector(size):
    """A text detector: features at four scales, added from the coarse to the fine, and a map of places."""

    def build(g):
        x, read, scales = g.conv("x", 3, 16, 3, 2, activation="HardSwish"), 16, []
        for made in (24, 48, 96, 192):
            x = g.conv(g.conv(x, read, read, 5, 2, read, "HardSwish"), read, made, 1, activation="HardSwish")
            scales.append(g.conv(x, made, 64, 1, activation=None))
            read = made
        x = scales.pop()
        for scale in reversed(scales):
            x = g.conv(g.add("Add", g.twice(x), scale), 64, 64, activation=None)
        x = g.conv(x, 64, 16)
        x = g.add("ConvTranspose", x, g.constant(weights(16, 16, 2, 2, inputs=16)), kernel_shape=[2, 2], strides=[2, 2])
        x = g.add("Relu", x)
        x = g.add("ConvTranspose", x, g.constant(weights(16, 1, 2, 2, inputs=16)), kernel_shape=[2, 2], strides=[2, 2])
        return g.add("Sigmoid", x)

    return [1, 3, size, size], build


def speech(g):
    """Convolutions over time, then the mean and the largest of each channel."""
    x, read = "x", 40
    for made, kernel, dilation in [(128, 5, 1), (128, 3, 2), (128, 3, 3), (256, 1, 1)]:
        x, read = g.conv(x, read, made, kernel, dilation=dilation, axes=1), made
    parts = [g.add(f"Reduce{kind}", x, axes=[2], keepdims=0) for kind in ("Mean", "Max")]
    return g.add("Concat", *parts, axis=1)


def recurrent(operator, gates, width=128, layers=2):
    def build(g):
        x, read = "x", 64
        for _ in range(layers):
            first, again = weights(1, gates * width, read, inputs=100), weights(1, gates * width, width, inputs=100)
            bias = g.constant(np.zeros((1, 2 * gates * width), np.float32))
            x = g.add(operator, x, g.constant(first), g.constant(again), bias, hidden_size=width)
            x, read = g.add("Squeeze", x, g.constant(np.array([1]))), width
        return x

    return [50, 1, 64], build


def encoder(tokens, layers=4, width=768, heads=12):
    """Layers of BERT-base, a third of their number."""

    def build(g):
        apart = g.constant(np.array([1, tokens, heads, width // heads]))
        together = g.constant(np.array([1, tokens, width]))
        scale = g.constant(np.float32((width // heads) ** -0.5))
        numbers = [g.constant(np.float32(number)) for number in (2**0.5, 1, 0.5)]

        def normalized(x):
            ones, zeros = np.ones(width, np.float32), np.zeros(width, np.float32)
            return g.add("LayerNormalization", x, g.constant(ones), g.constant(zeros), axis=-1)

        x = "x"
        for _ in range(layers):
            heads_of = [g.add("Reshape", g.layer(x, width, width), apart) for _ in range(3)]
            orders = ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
            query, key, value = (g.add("Transpose", h, perm=order) for h, order in zip(heads_of, orders))
            scores = g.add("Softmax", g.add("Mul", g.add("MatMul", query, key), scale), axis=-1)
            mixed = g.add("Transpose", g.add("MatMul", scores, value), perm=[0, 2, 1, 3])
            x = normalized(g.add("Add", x, g.layer(g.add("Reshape", mixed, together), width, width)))
            y = g.layer(x, width, width * 4)
            curve = g.add("Add", g.add("Erf", g.add("Div", y, numbers[0])), numbers[1])
            y = g.add("Mul", g.add("Mul", y, curve), numbers[2])
            x = normalized(g.add("Add", x, g.layer(y, width * 4, width)))
        return x

    return [1, tokens, width], build


def single(shape, operator, *constants, **attributes):
    def build(g):
        inputs = ["" if value is None else g.constant(value) for value in constants]
        return g.add(operator, "x", *inputs, **attributes)

    return shape, build


NETWORKS = {
    "resnet18": resnet([2, 2, 2, 2], False),
    "resnet50": resnet([3, 4, 6, 3], True),
    "mobile": mobile("HardSwish", 5, False),
    "efficient": mobile("SiLU", 3, True),
    "unet": ([1, 3, 128, 128], unet),
    "detector-320": detector(320),
    "detector-640": detector(640),
    "detector-960": detector(960),
    "speech": ([1, 40, 300], speech),
    "lstm": recurrent("LSTM", 4),
    "gru": recurrent("GRU", 3),
    "encoder-16": encoder(16),
    "encoder-64": encoder(64),
    "encoder-256": encoder(256),
}

TWICE = np.array([1, 1, 2, 2], np.float32)
OPERATORS = {
    "op-maxpool-1d": single([1, 196, 400], "MaxPool", kernel_shape=[3], pads=[1, 1]),
    "op-maxpool-2d": single([1, 64, 112, 112], "MaxPool", kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2]),
    "op-averagepool": single([1, 64, 56, 56], "AveragePool", kernel_shape=[2, 2], strides=[2, 2]),
    "op-globalmaxpool": single([1, 256, 28, 28], "GlobalMaxPool"),
    "op-reducemax": single([1, 3, 40, 196], "ReduceMax", axes=[1], keepdims=0),
    "op-reducemean": single([1, 64, 80, 80], "ReduceMean", axes=[2, 3]),
    "op-resize-nearest": single([1, 64, 40, 40], "Resize", None, TWICE, mode="nearest"),
    "op-resize-linear": single([1, 64, 20, 20], "Resize", None, TWICE, mode="linear"),
    "op-resize-cubic": single([1, 16, 40, 40], "Resize", None, TWICE, mode="cubic"),
    "op-topk": single([1, 8400], "TopK", np.array([100])),
    "op-softmax-channels": single([1, 21, 128, 128], "Softmax", axis=1),
    "op-layernorm": single(
        [1, 128, 384], "LayerNormalization", np.ones(384, np.float32), np.zeros(384, np.float32)
    ),
    "op-convtranspose": single(
        [1, 64, 40, 40], "ConvTranspose", weights(64, 32, 2, 2, inputs=64), kernel_shape=[2, 2], strides=[2, 2]
    ),
    "op-gelu": single([1, 128, 1536], "Erf"),
    "op-transpose": single([1, 64, 12, 64], "Transpose", perm=[0, 2, 1, 3]),
    "op-pad": single([1, 32, 64, 64], "Pad", np.array([0, 0, 1, 1, 0, 0, 1, 1]), mode="reflect"),
}  # fmt: skip


class Calibration(quantization.CalibrationDataReader):
    """Two random inputs."""

    def __init__(self, shape):
        self.cases = iter([{"x": RNG.standard_normal(shape).astype(np.float32)} for _ in range(2)])

    def get_next(self):
        return next(self.cases, None)


def converted(source, shape):
    """The kinds of a network: each with the function that writes it."""
    prepared = source.with_suffix(".prepared")

    def prepare():
        if not prepared.exists():
            quant_pre_process(source, prepared, skip_symbolic_shape=True)
        return prepared

    def static(form):
        return lambda to: quantization.quantize_static(
            prepare(), to, Calibration(shape), quant_format=form, per_channel=form == QuantFormat.QDQ
        )

    yield "fp16", lambda to: onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), to)
    yield "dynamic", lambda to: quantization.quantize_dynamic(prepare(), to)
    yield "qdq", static(QuantFormat.QDQ)
    yield "qop", static(QuantFormat.QOperator)


def made(folder, names=()):
    """Makes what is not there. Gives the path of each model."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = set(names)
    for name, (shape, build) in {**NETWORKS, **OPERATORS}.items():
        path = folder / f"{name}.onnx"
        kinds = list(converted(path, shape)) if name in NETWORKS else []
        kinds = [(kind, write) for kind, write in kinds if not names or f"{name}-{kind}" in wanted]
        if names and name not in wanted and not kinds:
            continue
        if not path.exists():
            graph = Graph()
            graph.save(path, shape, build(graph))
        yield path
        for kind, write in kinds:
            other = folder / f"{name}-{kind}.onnx"
            if not other.exists():
                try:
                    write(other)
                except Exception as error:  # noqa: BLE001 (a tool that cannot convert a model says so in many ways)
                    print(f"{other.name} cannot be made: {error}", file=sys.stderr)
                    continue
            yield other


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    logging.disable(logging.WARNING)
    for path in made(Path(sys.argv[1]), sys.argv[2:]):
        print(path.name, flush=True)
