"""Makes the small test models, and their oracle cases, beside this file.

    pip install -r tests/models/requirements.txt
    python tests/models/make.py              all of them
    python tests/models/make.py affine slow  only those named

Each model is <name>/model.onnx (opset 17, IR 9), its cases <name>/cases/ (see
oracle.py for their format). The models and cases are checked in; run this only
to change them. `digits` has no model here: its cases are for
model/digits/model.onnx and come from tests/data/digits-heldout.bin.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

import oracle

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64

node = helper.make_node


def value(name, kind, shape):
    return helper.make_tensor_value_info(name, kind, shape)


def const(name, array):
    return numpy_helper.from_array(np.asarray(array), name)


def f32(array):
    return np.asarray(array, dtype=np.float32)


def save(
    name, nodes, inputs, outputs, constants=(), check=True, ml=None, opset=17, microsoft=None, metadata=None
):
    """Writes <name>/model.onnx into an emptied folder. `ml` and `microsoft` are the versions of ai.onnx.ml and
    com.microsoft, if they are used."""
    graph = helper.make_graph(nodes, name, inputs, outputs, list(constants))
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", opset)]
        + ([helper.make_opsetid("ai.onnx.ml", ml)] if ml else [])
        + ([helper.make_opsetid("com.microsoft", microsoft)] if microsoft else []),
        ir_version=9,
        producer_name="onnxd-tests",
    )
    helper.set_model_props(model, metadata or {})
    if check:
        onnx.checker.check_model(model, full_check=True)
    path = oracle.fresh(HERE / name) / "model.onnx"
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


def cases(name, given):
    """Writes one case for each entry of `given`: case name -> inputs."""
    sess = oracle.session(HERE / name / "model.onnx")
    for case, inputs in given.items():
        oracle.write_case(
            HERE / name / "cases", case, inputs, oracle.run(sess, inputs)
        )


def make_types():
    """An input and an output of every datatype but BYTES."""
    kinds = {
        "bool": np.bool_,
        "uint8": np.uint8,
        "uint16": np.uint16,
        "uint32": np.uint32,
        "uint64": np.uint64,
        "int8": np.int8,
        "int16": np.int16,
        "int32": np.int32,
        "int64": np.int64,
        "fp16": np.float16,
        "fp32": np.float32,
        "fp64": np.float64,
    }
    nodes, inputs, outputs, extreme = [], [], [], {}
    for name, kind in kinds.items():
        onnx_kind = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
        inputs.append(value(name, onnx_kind, [2, 2]))
        outputs.append(value(f"{name}_out", onnx_kind, [2, 2]))
        nodes.append(node("Identity", [name], [f"{name}_out"]))
        if kind is np.bool_:
            four = [True, False, False, True]
        elif np.issubdtype(kind, np.integer):
            info = np.iinfo(kind)
            four = [info.min, info.max, 0, 1]
        else:
            info = np.finfo(kind)
            # The last is the smallest subnormal.
            four = [info.min, info.max, 0.5, info.smallest_subnormal]
        extreme[name] = np.array(four, dtype=kind).reshape(2, 2)
    save("types", nodes, inputs, outputs)
    cases("types", {"extremes": extreme})


def make_affine():
    save(
        "affine",
        [node("Gemm", ["x", "W", "b"], ["y"])],
        [value("x", FLOAT, ["N", 3])],
        [value("y", FLOAT, ["N", 2])],
        [const("W", f32([[1, 0], [0, 1], [1, 1]])), const("b", f32([0.5, -0.5]))],
    )
    cases(
        "affine",
        {
            "one": {"x": f32([[1, 2, 3]])},
            "four": {
                "x": f32([[0, 0, 0], [1, 0, 0], [-1.5, 2.25, 4], [10, 20, 30]])
            },
        },
    )


def make_pair():
    save(
        "pair",
        [node("Add", ["a", "b"], ["sum"]), node("Mul", ["a", "b"], ["product"])],
        [value("a", FLOAT, ["N", 2]), value("b", FLOAT, ["N", 2])],
        [value("sum", FLOAT, ["N", 2]), value("product", FLOAT, ["N", 2])],
    )
    cases(
        "pair",
        {
            "one": {"a": f32([[1, 2]]), "b": f32([[3, 4]])},
            "three": {
                "a": f32([[1, 2], [3, 4], [5, 6]]),
                "b": f32([[0.5, -1], [2, 0], [-0.25, 8]]),
            },
        },
    )


def make_open():
    save(
        "open",
        [
            node("ReduceSum", ["x", "axes"], ["y"], keepdims=0),
            node("Add", ["x", "x"], ["doubled"]),
        ],
        [value("x", FLOAT, ["N", "T"])],
        [value("y", FLOAT, ["N"]), value("doubled", FLOAT, ["N", "T"])],
        [const("axes", np.array([1], dtype=np.int64))],
    )
    cases(
        "open",
        {
            f"{n}x{t}": {"x": f32(np.arange(n * t).reshape(n, t)) / 4 - 1}
            for n, t in [(1, 1), (1, 5), (2, 3), (3, 2), (7, 16)]
        },
    )


def make_slow(name, steps):
    """A scan of `steps` products of two 512x512 matrices, about 270 MFLOP each.

    The scan goes from state s to s @ W + x / 2, where every row and column of W
    adds up to 1/2, so the state stays at x and y comes out as x.
    """
    size = 512
    body = helper.make_graph(
        [
            node("MatMul", ["state", "W"], ["moved"]),
            node("Add", ["moved", "slice"], ["next"]),
        ],
        "step",
        [value("state", FLOAT, [size, size]), value("slice", FLOAT, [1])],
        [value("next", FLOAT, [size, size])],
    )
    save(
        name,
        [
            # W = I / 4 + 1 / (4 * 512), made here to keep the file small.
            node(
                "ConstantOfShape",
                ["square"],
                ["even"],
                value=const("v", f32([0.25 / size])),
            ),
            node("EyeLike", ["even"], ["eye"]),
            node("Mul", ["eye", "quarter"], ["diagonal"]),
            node("Add", ["diagonal", "even"], ["W"]),
            # Both depend on x, so that nothing is computed at load.
            node("Expand", ["x", "square"], ["first"]),
            node("Mul", ["x", "half"], ["halved"]),
            node("Expand", ["halved", "column"], ["slices"]),
            node("Scan", ["first", "slices"], ["last"], body=body, num_scan_inputs=1),
            node("ReduceMean", ["last"], ["y"], keepdims=1),
        ],
        [value("x", FLOAT, [1, 1])],
        [value("y", FLOAT, [1, 1])],
        [
            const("square", np.array([size, size], dtype=np.int64)),
            const("column", np.array([steps, 1], dtype=np.int64)),
            const("quarter", f32(0.25)),
            const("half", f32(0.5)),
        ],
    )
    cases(name, {"two": {"x": f32([[2]])}})


def make_divide():
    """A division by zero fails the run."""
    kind = TensorProto.INT32
    save(
        "divide",
        [node("Div", ["a", "b"], ["q"])],
        [value("a", kind, [1]), value("b", kind, [1])],
        [value("q", kind, [1])],
    )
    seven, two = np.array([7], dtype=np.int32), np.array([2], dtype=np.int32)
    cases("divide", {"seven-by-two": {"a": seven, "b": two}})


def make_cut():
    """The values of `split` must add up to 7. No sample of a trial run guesses them."""
    save(
        "cut",
        [node("Split", ["x", "split"], ["first", "second"], name="cut", axis=0)],
        [value("x", FLOAT, [7]), value("split", INT64, [2])],
        [value("first", FLOAT, ["A"]), value("second", FLOAT, ["B"])],
    )


def make_never():
    """Every run divides integers by 0."""
    kind = TensorProto.INT32
    save(
        "never",
        [
            node("Cast", ["x"], ["whole"], to=kind),
            node("Sub", ["whole", "whole"], ["zero"]),
            node("Div", ["whole", "zero"], ["y"], name="quotient"),
        ],
        [value("x", FLOAT, [2])],
        [value("y", kind, [2])],
    )


def make_foreign():
    """ScaledTanh was in the standard's experiments. tract has it, but the server has no entry for it."""
    save(
        "foreign",
        [node("ScaledTanh", ["x"], ["y"], name="scaled", alpha=2.0, beta=3.0)],
        [value("x", FLOAT, [2])],
        [value("y", FLOAT, [2])],
        check=False,
    )


def make_flat():
    """An axis that the input does not have makes the engine panic. The panic is caught, and the error names the axis."""
    save(
        "flat",
        [node("Flatten", ["x"], ["y"], name="flat", axis=9)],
        [value("x", FLOAT, [2, 3])],
        [value("y", FLOAT, None)],
        check=False,
    )


def make_pick():
    """An index past 3 must fail the run."""
    save(
        "pick",
        [node("Gather", ["table", "index"], ["value"])],
        [value("index", INT64, [1])],
        [value("value", FLOAT, [1])],
        [const("table", f32([10, 20, 30, 40]))],
    )
    cases("pick", {"two": {"index": np.array([2], dtype=np.int64)}})


def make_nan():
    """Log: a negative number gives NaN, zero gives -inf."""
    save(
        "nan",
        [node("Log", ["x"], ["y"])],
        [value("x", FLOAT, ["N"])],
        [value("y", FLOAT, ["N"])],
    )


def make_matmul():
    """A product whose inner lengths may differ, which fails in the run and not before."""
    save(
        "matmul",
        [node("MatMul", ["a", "b"], ["y"])],
        [value("a", FLOAT, ["N", "K"]), value("b", FLOAT, ["L", "M"])],
        [value("y", FLOAT, ["N", "M"])],
    )


def make_conv():
    """A 3x3 convolution without padding over a picture of any size: less than 3x3 has no answer."""
    save(
        "conv",
        [node("Conv", ["x", "w"], ["y"])],
        [value("x", FLOAT, ["N", 1, "H", "W"])],
        [value("y", FLOAT, ["N", 2, "P", "Q"])],
        [const("w", f32(np.ones([2, 1, 3, 3])))],
    )


def make_imageu8():
    """Gives back the pixels it gets, in the layout of an image file."""
    save(
        "imageu8",
        [node("Cast", ["image"], ["pixels"], to=FLOAT)],
        [value("image", TensorProto.UINT8, ["N", 4, 6, 3])],
        [value("pixels", FLOAT, ["N", 4, 6, 3])],
    )


def make_image3():
    """Gives back the pixels it gets, in the layout most models want."""
    save(
        "image3",
        [node("Mul", ["image", "one"], ["pixels"])],
        [value("image", FLOAT, ["N", 3, 4, 6])],
        [value("pixels", FLOAT, ["N", 3, 4, 6])],
        [const("one", f32(1))],
    )


def make_spot(name, batch, sides, metadata, masks=False):
    """Finds the one bright rectangle in an image of 64 x 96: a detector with one anchor and one class, in the form of
    YOLOv8. The box has the mean and the variance of the bright pixels' places, so it is exact for a rectangle. The
    score is the brightest level. With `masks`, each box has a coefficient, 1, and the only prototype is positive where
    the image is bright."""
    height, width = 64, 96
    more = [
        node("Sub", ["score", "score"], ["nothing"]),
        node("Add", ["nothing", "one"], ["coefficient"]),
        node("Sub", ["gray", "half"], ["output1"]),
    ]
    save(
        name,
        [
            node("ReduceMean", ["image"], ["gray"], axes=[1], keepdims=1),
            node("ReduceMax", ["gray"], ["score"], axes=[2, 3], keepdims=1),
            node("Greater", ["gray", "half"], ["is_bright"]),
            node("Cast", ["is_bright"], ["bright"], to=FLOAT),
            node("ReduceSum", ["bright", "axes"], ["sum"], keepdims=1),
            node("Max", ["sum", "one"], ["count"]),
            *mean_place("x"),
            *mean_place("y"),
            *(more if masks else []),
            node("Concat", ["x_mean", "y_mean", "x_size", "y_size", "score", "coefficient"][: 6 if masks else 5], ["numbers"], axis=1),
            node("Reshape", ["numbers", "shape"], ["output0"]),
        ],
        [value("image", FLOAT, [batch, 3, *sides])],
        [value("output0", FLOAT, [batch, 6 if masks else 5, 1])]
        + ([value("output1", FLOAT, [batch, 1, height, width])] if masks else []),
        [
            const("half", f32(0.5)),
            const("one", f32(1)),
            const("twelve", f32(12)),
            const("axes", np.array([2, 3], dtype=np.int64)),
            const("x", f32(np.arange(width) + 0.5).reshape(1, 1, 1, width)),
            const("y", f32(np.arange(height) + 0.5).reshape(1, 1, height, 1)),
            # A pixel has a variance of its own: 1/12.
            const("pixel", f32(1 / 12)),
            const("shape", np.array([-1, 6 if masks else 5, 1], dtype=np.int64)),
        ],
        metadata=metadata,
    )


def mean_place(axis):
    """The mean of the bright pixels' places along an axis, and the length of a rectangle with their variance."""
    return [
        node("Mul", ["bright", axis], [f"{axis}_all"]),
        node("ReduceSum", [f"{axis}_all", "axes"], [f"{axis}_sum"], keepdims=1),
        node("Div", [f"{axis}_sum", "count"], [f"{axis}_mean"]),
        node("Sub", [axis, f"{axis}_mean"], [f"{axis}_off"]),
        node("Mul", [f"{axis}_off", f"{axis}_off"], [f"{axis}_square"]),
        node("Mul", [f"{axis}_square", "bright"], [f"{axis}_bright"]),
        node("ReduceSum", [f"{axis}_bright", "axes"], [f"{axis}_squares"], keepdims=1),
        node("Div", [f"{axis}_squares", "count"], [f"{axis}_part"]),
        node("Add", [f"{axis}_part", "pixel"], [f"{axis}_variance"]),
        node("Mul", [f"{axis}_variance", "twelve"], [f"{axis}_twelve"]),
        node("Sqrt", [f"{axis}_twelve"], [f"{axis}_size"]),
    ]


def make_boxes():
    """Gives back what it gets: three tensors that a test fills with the outputs of a detector."""
    names = {"y": ["N", 6, "anchors"], "logits": ["N", "queries", 2], "boxes": ["N", "rows", 4]}
    save(
        "boxes",
        [node("Identity", [f"{name}_in"], [name]) for name in names],
        [value(f"{name}_in", FLOAT, shape) for name, shape in names.items()],
        [value(name, FLOAT, shape) for name, shape in names.items()],
    )


def make_map():
    """Gives back the image of one channel that it gets."""
    save(
        "map",
        [node("Mul", ["image", "one"], ["map"])],
        [value("image", FLOAT, ["N", 1, 24, 40])],
        [value("map", FLOAT, ["N", 1, 24, 40])],
        [const("one", f32(1))],
    )


def make_sizes():
    """The brightness of an image of any size, in squares of 4 x 4 pixels."""
    save(
        "sizes",
        [
            node("ReduceMean", ["image"], ["gray"], axes=[1], keepdims=1),
            node("AveragePool", ["gray"], ["map"], kernel_shape=[4, 4], strides=[4, 4]),
        ],
        [value("image", FLOAT, ["N", 3, "height", "width"])],
        [value("map", FLOAT, ["N", 1, "rows", "columns"])],
    )


def make_letters():
    """Gives back the scores that it gets: a blank, the two characters of its metadata, and a space."""
    save(
        "letters",
        [node("Identity", ["x"], ["scores"])],
        [value("x", FLOAT, ["N", "steps", 4])],
        [value("scores", FLOAT, ["N", "steps", 4])],
        metadata={"character": "a\né"},
    )


def make_tints():
    """Reads one letter of a small image: its strongest colour, r, g or b. An image of 4 x 4 pixels."""
    save(
        "tints",
        [
            node("ReduceMean", ["image"], ["means"], axes=[2, 3], keepdims=0),
            node("Sub", ["means", "means"], ["zeros"]),
            node("Slice", ["zeros", "first", "second", "axis"], ["blank"]),
            node("Concat", ["blank", "means"], ["colours"], axis=1),
            node("Unsqueeze", ["colours", "axis"], ["scores"]),
        ],
        [value("image", FLOAT, ["N", 3, 4, 4])],
        [value("scores", FLOAT, ["N", 1, 4]), value("means", FLOAT, ["N", 3])],
        [
            const("first", np.array([0], dtype=np.int64)),
            const("second", np.array([1], dtype=np.int64)),
            const("axis", np.array([1], dtype=np.int64)),
        ],
        metadata={"character": "r\ng\nb"},
    )


def make_fussy():
    """As tints, but an image with little red ends in a division by zero."""
    save(
        "fussy",
        [
            node("ReduceMean", ["image"], ["means"], axes=[2, 3], keepdims=0),
            node("Slice", ["means", "first", "second", "axis"], ["red"]),
            node("Mul", ["red", "four"], ["quarters"]),
            node("Cast", ["quarters"], ["whole"], to=TensorProto.INT32),
            node("Div", ["unit", "whole"], ["share"]),
            node("Min", ["share", "nothing"], ["zero"]),
            node("Cast", ["zero"], ["blank"], to=FLOAT),
            node("Concat", ["blank", "means"], ["colours"], axis=1),
            node("Unsqueeze", ["colours", "axis"], ["scores"]),
        ],
        [value("image", FLOAT, ["N", 3, 4, 4])],
        [value("scores", FLOAT, ["N", 1, 4])],
        [
            const("first", np.array([0], dtype=np.int64)),
            const("second", np.array([1], dtype=np.int64)),
            const("axis", np.array([1], dtype=np.int64)),
            const("four", f32(4)),
            const("unit", np.array([[1]], dtype=np.int32)),
            const("nothing", np.array([[0]], dtype=np.int32)),
        ],
        metadata={"character": "r\ng\nb"},
    )


def make_unsupported():
    """ImageDecoder is a standard operator that the server does not have: it decodes images before the model."""
    save(
        "unsupported",
        [
            node("Identity", ["x"], ["file"], name="file"),
            node("ImageDecoder", ["file"], ["y"], name="decode", pixel_format="RGB"),
        ],
        [value("x", TensorProto.UINT8, ["N"])],
        [value("y", TensorProto.UINT8, ["H", "W", 3])],
        opset=20,
    )


def make_badshape():
    """A product of [1, 3] and [4, 2], which cannot be loaded."""
    save(
        "badshape",
        [node("MatMul", ["x", "W"], ["y"], name="product")],
        [value("x", FLOAT, [1, 3])],
        [value("y", FLOAT, [1, 2])],
        [const("W", np.ones((4, 2), dtype=np.float32))],
        check=False,
    )


def make_digits():
    """Cases for model/digits, with the softmax that its server applies."""
    path = ROOT / "model" / "digits" / "model.onnx"
    records = ROOT / "tests" / "data" / "digits-heldout.bin"
    for needed in (path, records):
        if not needed.exists():
            sys.exit(f"digits: {needed.relative_to(ROOT)} is missing")
    images = np.fromfile(records, dtype=np.uint8).reshape(-1, 785)[:, 1:]
    images = (images.astype(np.float32) / np.float32(255)).reshape(-1, 1, 28, 28)
    sess = oracle.session(path)
    given = {f"digit-{i:02}": images[i : i + 1] for i in range(20)}
    given["batch5-a"] = images[20:25]
    given["batch5-b"] = images[25:30]
    folder = oracle.fresh(HERE / "digits" / "cases")
    for case, batch in given.items():
        logits = oracle.run(sess, {"image": batch})["logits"]
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        odds /= odds.sum(axis=1, keepdims=True)
        assert odds.dtype == np.float32 and odds.shape == (len(batch), 10)
        oracle.write_case(folder, case, {"image": batch}, {"logits": odds})


def make_running():
    """A running sum: y is the sum of all x of a sequence, which the state carries along its second axis."""
    save(
        "running",
        [
            node("Squeeze", ["state", "first"], ["before"]),
            node("Add", ["x", "before"], ["y"]),
            node("Unsqueeze", ["y", "first"], ["state_out"]),
        ],
        [value("x", FLOAT, ["N", 2]), value("state", FLOAT, [1, "N", 2])],
        [value("y", FLOAT, ["N", 2]), value("state_out", FLOAT, [1, "N", 2])],
        [const("first", np.array([0], dtype=np.int64))],
    )
    cases("running", {"one": {"x": f32([[1, 2]]), "state": f32([[[10, 20]]])}})


def make_windows():
    """Gives back the six samples that it gets, and their sum."""
    save(
        "windows",
        [
            node("Identity", ["x"], ["samples"]),
            node("ReduceSum", ["x", "axes"], ["sum"], keepdims=1),
        ],
        [value("x", FLOAT, ["N", 6])],
        [value("samples", FLOAT, ["N", 6]), value("sum", FLOAT, ["N", 1])],
        [const("axes", np.array([1], dtype=np.int64))],
    )


def make_loud():
    """The loudest of four samples, and the loudest of the stream so far, which the state carries."""
    save(
        "loud",
        [
            node("Abs", ["x"], ["sizes"]),
            node("ReduceMax", ["sizes"], ["score"], axes=[1], keepdims=1),
            node("Max", ["score", "before"], ["after"]),
            node("Identity", ["after"], ["so_far"]),
        ],
        [value("x", FLOAT, [1, 4]), value("before", FLOAT, [1, 1])],
        [value("score", FLOAT, [1, 1]), value("so_far", FLOAT, [1, 1]), value("after", FLOAT, [1, 1])],
    )
    cases("loud", {"one": {"x": f32([[0.1, -0.5, 0, 0.2]]), "before": f32([[0.3]])}})


def make_share():
    """An integer division row by row: a row with a zero ends the engine in a panic, and its batch with it."""
    kind = TensorProto.INT32
    save(
        "share",
        [node("Div", ["a", "b"], ["q"])],
        [value("a", kind, ["N", 1]), value("b", kind, ["N", 1])],
        [value("q", kind, ["N", 1])],
    )


def make_mixed():
    """The mean over the rows is taken off: rows that are no independent rows."""
    save(
        "mixed",
        [
            node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
            node("Sub", ["x", "mean"], ["y"]),
        ],
        [value("x", FLOAT, ["N", 4])],
        [value("y", FLOAT, ["N", 4])],
    )


def make_version(number):
    """Says its version's number, whatever it is asked."""
    save(
        f"version{number}",
        [node("Mul", ["x", "zero"], ["nothing"]), node("Add", ["nothing", "number"], ["y"])],
        [value("x", FLOAT, [1])],
        [value("y", FLOAT, [1])],
        [const("zero", f32([0])), const("number", f32([number]))],
    )


def make_outside():
    """y = x · w, with w in a file of its own beside the model (external data)."""
    path = save(
        "outside",
        [node("MatMul", ["x", "w"], ["y"])],
        [value("x", FLOAT, ["N", 4])],
        [value("y", FLOAT, ["N", 2])],
        [const("w", f32(np.arange(8).reshape(4, 2)))],
    )
    (path.parent / "weights").mkdir()
    onnx.save_model(
        onnx.load(path), path, save_as_external_data=True, location="weights/w.bin", size_threshold=0
    )
    cases("outside", {"row": {"x": f32([[1, 2, 3, 4]])}})


def make_heavy():
    """y = x times the first of 4,194,304 rows, which lie in w.bin (64 MiB). The test that uses it makes that file."""
    rows = onnx.TensorProto(name="w", data_type=FLOAT, dims=[1 << 22, 4], data_location=onnx.TensorProto.EXTERNAL)
    rows.external_data.add(key="location", value="w.bin")
    save(
        "heavy",
        [node("Gather", ["w", "first"], ["row"]), node("Mul", ["x", "row"], ["y"])],
        [value("x", FLOAT, [1, 4])],
        [value("y", FLOAT, [1, 4])],
        [rows, const("first", np.array([0], dtype=np.int64))],
        check=False,
    )


def make_cube():
    """Gives a sequence of vectors as it came: something to pool."""
    save(
        "cube",
        [node("Identity", ["x"], ["y"])],
        [value("x", FLOAT, ["N", 2, 2])],
        [value("y", FLOAT, ["N", 2, 2])],
    )


def make_lone():
    """Adds up what it gets. The file promises any number of rows, but the shape inside holds for one only."""
    save(
        "lone",
        [
            node("Reshape", ["x", "flat"], ["row"]),
            node("ReduceSum", ["row", "last"], ["y"], keepdims=1),
        ],
        [value("x", FLOAT, ["N", 4])],
        [value("y", FLOAT, ["N", 1])],
        [
            const("flat", np.array([1, 4], dtype=np.int64)),
            const("last", np.array([1], dtype=np.int64)),
        ],
    )


def make_clash():
    """As lone, but the product that needs a single row is only found out by a run of two."""
    save(
        "clash",
        [
            node("Transpose", ["x"], ["columns"], perm=[1, 0]),
            node("MatMul", ["columns", "one"], ["sums"]),
            node("Transpose", ["sums"], ["y"], perm=[1, 0]),
        ],
        [value("x", FLOAT, ["N", 4])],
        [value("y", FLOAT, ["N", 4])],
        [const("one", f32([[2]]))],
        check=False,
    )


def make_dft():
    """The DFT of a power of two and of lengths that are none. Expected is numpy's in double precision: onnxruntime's
    own is 0.005 away from it at 400."""
    lengths = (1, 16, 49, 400)
    save(
        "dft",
        [node("DFT", [f"x{n}"], [f"y{n}"], axis=1, onesided=0) for n in lengths],
        [value(f"x{n}", FLOAT, [1, n, 1]) for n in lengths],
        [value(f"y{n}", FLOAT, [1, n, 2]) for n in lengths],
    )
    rng = np.random.default_rng(17)
    given = {f"x{n}": f32(rng.normal(size=(1, n, 1))) for n in lengths}
    exact = {f"y{n}": np.fft.fft(given[f"x{n}"][..., 0].astype(np.float64)) for n in lengths}
    wanted = {name: f32(np.stack([value.real, value.imag], axis=-1)) for name, value in exact.items()}
    oracle.write_case(oracle.fresh(HERE / "dft" / "cases"), "noise", given, wanted)


def make_branch():
    """Two conditions. What `flag` says only a run tells. That the rank is 2 is known from the shapes, and the branch
    that is not taken fits no tensor of two rows. onnxruntime refuses to infer shapes for it, so y is numpy's."""
    less = helper.make_graph([node("Sub", ["x", "one"], ["less"])], "less", [], [value("less", FLOAT, [2, 3])])
    more = helper.make_graph([node("Add", ["x", "one"], ["more"])], "more", [], [value("more", FLOAT, [2, 3])])
    twice = helper.make_graph([node("Add", ["x", "x"], ["twice"])], "twice", [], [value("twice", FLOAT, [2, 3])])
    # The row of a single row: there are two.
    row = helper.make_graph([node("Squeeze", ["x", "zero"], ["row"])], "row", [], [value("row", FLOAT, None)])
    save(
        "branch",
        [
            node("If", ["flag"], ["y"], then_branch=more, else_branch=less),
            node("Shape", ["x"], ["shape"]),
            node("Size", ["shape"], ["rank"]),
            node("Equal", ["rank", "two"], ["is_matrix"]),
            node("If", ["is_matrix"], ["z"], then_branch=twice, else_branch=row),
        ],
        [value("x", FLOAT, [2, 3]), value("flag", TensorProto.BOOL, [])],
        [value("y", FLOAT, [2, 3]), value("z", FLOAT, None)],
        [const("one", f32(1)), const("two", np.array(2)), const("zero", np.array([0]))],
        check=False,
    )
    x = f32(np.arange(6).reshape(2, 3))
    for flag in (True, False):
        given = {"x": x, "flag": np.array(flag)}
        wanted = {"y": x + 1 if flag else x - 1, "z": x + x}
        oracle.write_case(HERE / "branch" / "cases", str(flag).lower(), given, wanted)


MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]


def grown(rng, features, depth, mode):
    """A tree as a list of nodes, (mode, feature, value, true, false, missing is true). Thresholds are whole numbers
    often, so that rows meet them exactly. BRANCH_NEQ always takes NaN for true: onnxruntime does whatever the
    file says."""
    nodes = []

    def grow(left):
        at = len(nodes)
        nodes.append(("LEAF", 0, 0.0, 0, 0, 0))
        if left and rng.random() < 0.85:
            own = mode or MODES[rng.integers(6)]
            value = float(f32(rng.choice([rng.integers(-2, 3), rng.normal()])))
            missing = 1 if own == "BRANCH_NEQ" else int(rng.integers(2))
            nodes[at] = (own, int(rng.integers(features)), value, grow(left - 1), grow(left - 1), missing)
        return at

    grow(depth)
    return nodes


def listed(rng, trees, prefix, targets, weight):
    """The attributes of ai.onnx.ml 3: nodes and leaf weights in parallel lists."""
    names = ["modes", "featureids", "values", "truenodeids", "falsenodeids", "missing_value_tracks_true"]
    lists = {f"nodes_{name}": [] for name in ["treeids", "nodeids", *names]}
    votes = {f"{prefix}_{name}": [] for name in ["treeids", "nodeids", "ids", "weights"]}
    for tree, nodes in enumerate(trees):
        for at, fields in enumerate(nodes):
            lists["nodes_treeids"].append(tree)
            lists["nodes_nodeids"].append(at)
            for name, field in zip(names, fields):
                lists[f"nodes_{name}"].append(field)
            for target in targets if fields[0] == "LEAF" else []:
                for name, field in zip(votes, [tree, at, target, weight()]):
                    votes[name].append(field)
    return {**lists, **votes}


def tree_rows(rng, rows, features, kind=np.float32):
    """Whole numbers and others, NaN, infinities, both zeros."""
    x = np.where(
        rng.random((rows, features)) < 0.5,
        rng.integers(-2, 4, (rows, features)),
        rng.normal(size=(rows, features)),
    ).astype(kind)
    for value, share in [(np.nan, 0.1), (np.inf, 0.03), (-np.inf, 0.03), (-0.0, 0.03)]:
        x[rng.random((rows, features)) < share] = value
    return x


def make_recurrent():
    """A running sum, an LSTM and a GRU over four steps: each request begins at the beginning."""
    rng = np.random.default_rng(8)
    normal = lambda name, *shape: const(name, f32(rng.normal(size=shape)))
    body = helper.make_graph(
        [node("Add", ["sum", "step"], ["next"]), node("Identity", ["next"], ["shown"])],
        "step",
        [value("sum", FLOAT, [1, 2]), value("step", FLOAT, [1, 2])],
        [value("next", FLOAT, [1, 2]), value("shown", FLOAT, [1, 2])],
    )
    save(
        "recurrent",
        [
            node("Scan", ["zero", "x"], ["total", "sums"], body=body, num_scan_inputs=1),
            node("LSTM", ["x", "lw", "lr", "lb"], ["lstm"], hidden_size=3),
            node("GRU", ["x", "gw", "gr", "gb"], ["gru"], hidden_size=3, linear_before_reset=1),
        ],
        [value("x", FLOAT, [4, 1, 2])],
        [
            value("total", FLOAT, [1, 2]),
            value("sums", FLOAT, [4, 1, 2]),
            value("lstm", FLOAT, [4, 1, 1, 3]),
            value("gru", FLOAT, [4, 1, 1, 3]),
        ],
        [
            const("zero", f32([[0, 0]])),
            *[normal("lw", 1, 12, 2), normal("lr", 1, 12, 3), normal("lb", 1, 24)],
            *[normal("gw", 1, 9, 2), normal("gr", 1, 9, 3), normal("gb", 1, 18)],
        ],
    )
    cases("recurrent", {name: {"x": f32(rng.normal(size=(4, 1, 2)))} for name in ("one", "two", "three")})


def make_pipeline():
    """What scikit-learn's pipelines are exported as: features made ready, linear models, labels, and a ZipMap at the
    end. onnxruntime's answer to a ZipMap is dictionaries: their values are expected here."""
    rng = np.random.default_rng(6)
    normal = lambda *shape: f32(rng.normal(size=shape)).ravel().tolist()
    ml = lambda kind, inputs, outputs, **attributes: node(
        kind, inputs, outputs, domain="ai.onnx.ml", **attributes
    )
    classes = ["red", "green", "blue"]
    save(
        "pipeline",
        [
            ml("Imputer", ["x"], ["filled"], imputed_value_floats=normal(4), replaced_value_float=float("nan")),
            ml("Scaler", ["filled"], ["scaled"], offset=normal(4), scale=normal(4)),
            ml("Normalizer", ["scaled"], ["l2"], norm="L2"),
            ml("Normalizer", ["scaled"], ["l1"], norm="L1"),
            ml("Normalizer", ["scaled"], ["max"], norm="MAX"),
            ml("Binarizer", ["scaled"], ["signs"], threshold=0.25),
            ml(
                "LinearClassifier",
                ["l2"],
                ["colour", "scores"],
                coefficients=normal(3, 4),
                intercepts=normal(3),
                classlabels_strings=classes,
                post_transform="SOFTMAX",
            ),
            ml("ZipMap", ["scores"], ["probabilities"], classlabels_strings=classes),
            ml(
                "LinearClassifier",
                ["scaled"],
                ["side", "sides"],
                coefficients=normal(4),
                intercepts=normal(1),
                classlabels_ints=[5, 7],
                post_transform="LOGISTIC",
            ),
            ml("LinearRegressor", ["scaled"], ["values"], targets=2, coefficients=normal(2, 4), intercepts=normal(2)),
            ml(
                "LabelEncoder",
                ["colour"],
                ["number"],
                keys_strings=["blue", "red"],
                values_int64s=[3, 1],
                default_int64=-7,
            ),
            ml("LabelEncoder", ["side"], ["word"], keys_int64s=[5], values_strings=["left"], default_string="right"),
            node("ArgMax", ["scores"], ["best"], axis=1, keepdims=0),
            ml("ArrayFeatureExtractor", ["prices", "best"], ["price"]),
            ml("ArrayFeatureExtractor", ["x", "places"], ["some"]),
        ],
        [value("x", FLOAT, ["N", 4])],
        [
            value("colour", TensorProto.STRING, ["N"]),
            helper.make_value_info(
                "probabilities",
                helper.make_sequence_type_proto(
                    helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(FLOAT, []))
                ),
            ),
            value("l1", FLOAT, ["N", 4]),
            value("max", FLOAT, ["N", 4]),
            value("signs", FLOAT, ["N", 4]),
            value("side", INT64, ["N"]),
            value("sides", FLOAT, ["N", 2]),
            value("values", FLOAT, ["N", 2]),
            value("number", INT64, ["N"]),
            value("word", TensorProto.STRING, ["N"]),
            value("price", FLOAT, [1, "N"]),
            value("some", FLOAT, ["N", 2]),
        ],
        [const("prices", f32([10, 20, 30])), const("places", np.array([2, 0]))],
        check=False,
        ml=2,
    )
    sess = oracle.session(HERE / "pipeline" / "model.onnx")
    for rows in (1, 9):
        x = f32(rng.normal(size=(rows, 4)))
        wanted = dict(zip([o.name for o in sess.get_outputs()], sess.run(None, {"x": x})))
        # The dictionaries are in the order of their keys, not of the columns.
        wanted["probabilities"] = f32([[row[key] for key in classes] for row in wanted["probabilities"]])
        oracle.write_case(HERE / "pipeline" / "cases", f"rows-{rows}", {"x": x}, wanted)


def make_weather():
    """A text classifier as scikit-learn exports it: lower case, words, counts of words and of pairs, a linear model. The
    text is one column, so a batch has the shape [N, 1]. `said` is the text with a mark, `words` its words."""
    words = ["cloud", "rain", "snow", "sun", "sun", "shines"]
    save(
        "weather",
        [
            node("Reshape", ["text", "flat"], ["texts"]),
            node("StringNormalizer", ["texts"], ["lower"], case_change_action="LOWER", locale="C.UTF-8"),
            node(
                "Tokenizer",
                ["lower"],
                ["words"],
                domain="com.microsoft",
                mark=0,
                mincharnum=1,
                pad_value="#",
                tokenexp="[a-zA-Z0-9_]+",
            ),
            node(
                "TfIdfVectorizer",
                ["words"],
                ["counts"],
                mode="TF",
                min_gram_length=1,
                max_gram_length=2,
                max_skip_count=0,
                ngram_counts=[0, 4],
                ngram_indexes=[0, 1, 2, 3, 4],
                pool_strings=words,
            ),
            node(
                "LinearClassifier",
                ["counts"],
                ["weather", "scores"],
                domain="ai.onnx.ml",
                coefficients=[0.5, 2.0, 1.5, -1.0, -0.5, 0.0, -1.5, -1.0, 2.0, 1.0],
                intercepts=[0.1, 0.2],
                classlabels_strings=["bad", "good"],
                multi_class=1,
                post_transform="SOFTMAX",
            ),
            node("StringConcat", ["text", "mark"], ["said"]),
        ],
        [value("text", TensorProto.STRING, ["N", 1])],
        [
            value("weather", TensorProto.STRING, ["N"]),
            value("scores", FLOAT, ["N", 2]),
            value("said", TensorProto.STRING, ["N", 1]),
        ],
        [
            const("flat", np.array([-1])),
            helper.make_tensor("mark", TensorProto.STRING, [], [b"!"]),
        ],
        check=False,
        ml=1,
        opset=20,
        microsoft=1,
    )
    said = ["The SUN shines", "rain, rain, rain.", "Привет, мир", "", "snow_cloud cloud\nsun shines sun"]
    cases(
        "weather",
        {
            "one": {"text": oracle.texts(*said[:1])[:, None]},
            "five": {"text": oracle.texts(*said)[:, None]},
        },
    )


def make_quantlstm():
    """An operator that onnxruntime's dynamic quantization makes, and the engine does not have."""
    save(
        "quantlstm",
        [node("DynamicQuantizeLSTM", ["x", "w", "r"], ["y"], domain="com.microsoft", name="lstm", hidden_size=1)],
        [value("x", FLOAT, [1, 1, 1])],
        [value("y", FLOAT, [1, 1, 1, 1])],
        [const("w", np.zeros((1, 1, 4), np.int8)), const("r", np.zeros((1, 1, 4), np.int8))],
        check=False,
    )


def make_trees():
    """Regressors with each aggregate, each comparison and all of them mixed, and NaN: one output each."""
    rng = np.random.default_rng(3)
    nodes, outputs = [], []
    for at, aggregate in enumerate(["SUM", "AVERAGE", "MIN", "MAX"] * 2):
        targets = 1 + at // 4 * 2
        mode = MODES[at] if at < 6 else None
        trees = [grown(rng, 4, 3, mode) for _ in range(3)]
        attributes = listed(rng, trees, "target", range(targets), lambda: float(f32(rng.normal())))
        name = f"{aggregate.lower()}_{targets}"
        nodes.append(
            node(
                "TreeEnsembleRegressor",
                ["x"],
                [name],
                domain="ai.onnx.ml",
                n_targets=targets,
                aggregate_function=aggregate,
                base_values=f32(rng.normal(size=targets)),
                **attributes,
            )
        )
        outputs.append(value(name, FLOAT, ["N", targets]))
    save("trees", nodes, [value("x", FLOAT, ["N", 4])], outputs, ml=3)
    cases("trees", {f"rows-{n}": {"x": tree_rows(rng, n, 4)} for n in (1, 9, 20)})


def make_votes():
    """Classifiers: labels in numbers and words, one column of weights for two classes and one for each of four, each
    transform, integers as features."""
    rng = np.random.default_rng(4)
    nodes, outputs = [], []
    for at, (classes, transform, words, positive) in enumerate(
        [
            (2, "NONE", False, True),
            (2, "NONE", True, False),
            (2, "LOGISTIC", False, False),
            (4, "NONE", True, True),
            (4, "SOFTMAX", False, False),
            (4, "SOFTMAX_ZERO", False, False),
            (4, "LOGISTIC", True, False),
        ]
    ):
        trees = [grown(rng, 4, 3, None) for _ in range(3)]
        weight = lambda: float(f32(abs(rng.normal()) / 3 if positive else rng.normal()))
        columns = range(1 if classes == 2 else classes)
        attributes = listed(rng, trees, "class", columns, weight)
        labels = [f"class {c}" for c in range(classes)] if words else [10 * c - 1 for c in range(classes)]
        attributes["classlabels_strings" if words else "classlabels_int64s"] = labels
        nodes.append(
            node(
                "TreeEnsembleClassifier",
                ["i" if at == 0 else "x"],
                [f"label_{at}", f"score_{at}"],
                domain="ai.onnx.ml",
                post_transform=transform,
                **attributes,
            )
        )
        outputs.append(value(f"label_{at}", TensorProto.STRING if words else INT64, ["N"]))
        outputs.append(value(f"score_{at}", FLOAT, ["N", classes]))
    save("votes", nodes, [value("x", FLOAT, ["N", 4]), value("i", INT64, ["N", 4])], outputs, ml=3)
    given = {
        f"rows-{n}": {"x": tree_rows(rng, n, 4), "i": rng.integers(-3, 4, (n, 4))} for n in (1, 9, 20)
    }
    cases("votes", given)


def make_trees5():
    """TreeEnsemble of ai.onnx.ml 5, in single and double precision: sets, a tree of one leaf, each aggregate. No
    transform: onnxruntime takes the number of SOFTMAX for that of LOGISTIC. Features are whole, as it rounds what it
    looks up in a set."""
    rng = np.random.default_rng(5)
    nodes, outputs, inputs = [], [], []
    for at, kind in enumerate([np.float32, np.float64, np.float32, np.float64]):
        trees = [grown(rng, 4, 3, None) for _ in range(4)]
        lists = {
            f"nodes_{name}": []
            for name in ["featureids", "truenodeids", "falsenodeids", "trueleafs", "falseleafs"]
        }
        modes, splits, missing, members, roots, targets = [], [], [], [], [], []
        for tree in trees:
            roots.append(len(modes))
            branches = [n for n, fields in enumerate(tree) if fields[0] != "LEAF"]
            if not branches:
                # A single leaf is a node both of whose branches are that leaf.
                tree, branches = [("BRANCH_LEQ", 0, 0.0, 1, 1, 0), tree[0]], [0]
            places = {n: len(modes) + place for place, n in enumerate(branches)}
            for n in branches:
                mode, feature, split, *ways, nan = tree[n]
                is_set = rng.random() < 0.25
                modes.append(6 if is_set else MODES.index(mode))
                splits.append(0.0 if is_set else split)
                missing.append(0 if is_set else nan)
                if is_set:
                    size = int(rng.integers(1, 6))
                    members += [*rng.choice(np.arange(-2, 9), size, replace=False), np.nan]
                lists["nodes_featureids"].append(feature)
                for name, way in zip(["true", "false"], ways):
                    is_leaf = way not in places
                    lists[f"nodes_{name}leafs"].append(int(is_leaf))
                    lists[f"nodes_{name}nodeids"].append(len(targets) if is_leaf else places[way])
                    if is_leaf:
                        targets.append(int(rng.integers(3)))
        name = np.dtype(kind).name
        nodes.append(
            node(
                "TreeEnsemble",
                [name],
                [f"y{at}"],
                domain="ai.onnx.ml",
                n_targets=3,
                aggregate_function=at,
                tree_roots=roots,
                nodes_modes=const("modes", np.array(modes, dtype=np.uint8)),
                nodes_splits=const("splits", np.array(splits, dtype=kind)),
                nodes_missing_value_tracks_true=missing,
                membership_values=const("members", np.array(members, dtype=kind)),
                leaf_targetids=targets,
                leaf_weights=const("weights", rng.normal(size=len(targets)).astype(kind)),
                **lists,
            )
        )
        outputs.append(value(f"y{at}", helper.np_dtype_to_tensor_dtype(np.dtype(kind)), ["N", 3]))
    for kind in (np.float32, np.float64):
        onnx_kind = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
        inputs.append(value(np.dtype(kind).name, onnx_kind, ["N", 4]))
    save("trees5", nodes, inputs, outputs, ml=5)
    given = {}
    for rows in (1, 9, 20):
        x = rng.integers(-3, 9, (rows, 4)).astype(np.float32)
        x[rng.random((rows, 4)) < 0.1] = np.nan
        given[f"rows-{rows}"] = {"float32": x, "float64": x.astype(np.float64)}
    cases("trees5", given)


SENTENCES = {
    "one": ["the cat sat on the mat"],
    "unequal": ["the cat", "a dog ran after the black cat !", ""],
    "pieces": ["The dogs are unlikely to be BLACK, catlike dogs."],
    "long": ["the cat sat on the mat and " * 40],
    "unknown": ["zebra \U0001f431 \u732b\u304c\u5ea7\u3063\u305f caf\u00e9"],
}


def make_embed():
    """A sentence embedding model as they come, but small: token ids, mask and segments in, a vector a token
    out. Filling gives vectors that would show in any mean."""
    hidden = 6
    words = "the a cat dog mat sat ran on after and black are to be un ##likely ##like ##s cat ##lik ##e , . !"
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {word: at for at, word in enumerate(dict.fromkeys(special + words.split() + list("猫座")))}
    rng = np.random.default_rng(23)
    path = save(
        "embed",
        [
            node("Gather", ["words", "input_ids"], ["word"]),
            node("Gather", ["segments", "token_type_ids"], ["segment"]),
            node("Add", ["word", "segment"], ["token"]),
            node("Sub", ["one", "attention_mask"], ["filling"]),
            node("Cast", ["filling"], ["filling_float"], to=FLOAT),
            node("Mul", ["filling_float", "hundred"], ["filling_loud"]),
            node("Unsqueeze", ["filling_loud", "last"], ["filling_vector"]),
            node("Add", ["token", "filling_vector"], ["hidden"]),
        ],
        [value(name, INT64, ["batch", "sequence"]) for name in ("input_ids", "attention_mask", "token_type_ids")],
        [value("hidden", FLOAT, ["batch", "sequence", hidden])],
        [
            const("words", f32(rng.normal(size=(len(vocabulary), hidden)))),
            const("segments", f32(rng.normal(size=(2, hidden)))),
            const("one", np.array(1, dtype=np.int64)),
            const("hundred", f32(100)),
            const("last", np.array([2], dtype=np.int64)),
        ],
    )
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
    )
    tokenizer.save(str(path.parent / "tokenizer.json"))
    manifest = {
        "inputs": [{"name": "input_ids", "text": {"max_length": 12}}],
        "outputs": [{"name": "hidden", "pooling": "mean", "normalize": "l2"}],
    }
    (path.parent / "model.json").write_text(json.dumps(manifest, indent=2) + "\n")
    sess = oracle.session(path)
    for case, sentences in SENTENCES.items():
        inputs = oracle.tokens(tokenizer, sentences, 12)
        answer = oracle.embedding(oracle.run(sess, inputs)["hidden"], inputs["attention_mask"])
        folder = path.parent / "cases"
        oracle.write_case(folder, case, {"input_ids": oracle.texts(*sentences)}, {"hidden": answer})
        oracle.write_case(folder, f"{case}-ready", inputs, {"hidden": answer})


def make_bag():
    """Token ids and nothing else in, as INT32; the ids by a byte-level BPE, which adds no token of its own."""
    merges = [("t", "h"), ("th", "e"), ("c", "a"), ("ca", "t"), ("Ġ", "c"), ("Ġc", "a"), ("Ġca", "t"), ("Ġ", "the")]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = ["<pad>"] + alphabet + [a + b for a, b in merges]
    vocabulary = {piece: at for at, piece in enumerate(pieces)}
    rng = np.random.default_rng(29)
    path = save(
        "bag",
        [node("Gather", ["table", "tokens"], ["vectors"])],
        [value("tokens", TensorProto.INT32, ["batch", "sequence"])],
        [value("vectors", FLOAT, ["batch", "sequence", 5])],
        [const("table", f32(rng.normal(size=(len(vocabulary), 5))))],
    )
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<pad>"])
    tokenizer.save(str(path.parent / "tokenizer.json"))
    manifest = {
        "max_batch_size": 8,
        "inputs": [{"name": "tokens", "text": {"max_length": 20}}],
        "outputs": [{"name": "vectors", "pooling": "mean", "normalize": "l2"}],
    }
    (path.parent / "model.json").write_text(json.dumps(manifest, indent=2) + "\n")
    sess = oracle.session(path)
    for case, sentences in SENTENCES.items():
        sentences = [sentence for sentence in sentences if sentence]
        inputs = oracle.tokens(tokenizer, sentences, 20, pad="<pad>")
        mask, ids = inputs["attention_mask"], inputs["input_ids"].astype(np.int32)
        answer = oracle.embedding(oracle.run(sess, {"tokens": ids})["vectors"], mask)
        folder = path.parent / "cases"
        oracle.write_case(folder, case, {"tokens": oracle.texts(*sentences)}, {"vectors": answer})
        oracle.write_case(folder, f"{case}-ready", {"tokens": ids}, {"vectors": answer})


MODELS = {
    "embed": make_embed,
    "bag": make_bag,
    "branch": make_branch,
    "recurrent": make_recurrent,
    "pipeline": make_pipeline,
    "quantlstm": make_quantlstm,
    "weather": make_weather,
    "trees": make_trees,
    "votes": make_votes,
    "trees5": make_trees5,
    "dft": make_dft,
    "outside": make_outside,
    "heavy": make_heavy,
    "cube": make_cube,
    "lone": make_lone,
    "clash": make_clash,
    "running": make_running,
    "windows": make_windows,
    "loud": make_loud,
    "share": make_share,
    "mixed": make_mixed,
    "version1": lambda: make_version(1),
    "version2": lambda: make_version(2),
    "types": make_types,
    "affine": make_affine,
    "pair": make_pair,
    "open": make_open,
    "slow": lambda: make_slow("slow", 360),
    "slow200": lambda: make_slow("slow200", 60),
    "divide": make_divide,
    "pick": make_pick,
    "nan": make_nan,
    "matmul": make_matmul,
    "conv": make_conv,
    "imageu8": make_imageu8,
    "image3": make_image3,
    "spot": lambda: make_spot("spot", "N", [64, 96], {}),
    "ultralytics": lambda: make_spot(
        "ultralytics",
        "batch",
        ["height", "width"],
        {"task": "detect", "names": "{0: 'spot'}", "imgsz": "[64, 96]", "stride": "32"},
    ),
    "segments": lambda: make_spot(
        "segments",
        "batch",
        [64, 96],
        {"task": "segment", "names": "{0: 'spot'}", "imgsz": "[64, 96]", "stride": "32"},
        masks=True,
    ),
    "boxes": make_boxes,
    "map": make_map,
    "sizes": make_sizes,
    "letters": make_letters,
    "tints": make_tints,
    "fussy": make_fussy,
    "cut": make_cut,
    "flat": make_flat,
    "never": make_never,
    "foreign": make_foreign,
    "unsupported": make_unsupported,
    "badshape": make_badshape,
    "digits": make_digits,
}


def main():
    wanted = sys.argv[1:] or list(MODELS)
    for name in wanted:
        if name not in MODELS:
            sys.exit(f"no model is called {name}; there are {', '.join(MODELS)}")
    for name in wanted:
        MODELS[name]()
        files = [f for f in (HERE / name).rglob("*") if f.is_file()]
        made = sum(f.name.endswith(".request.bin") for f in files)
        size = sum(f.stat().st_size for f in files)
        print(f"{name}: {made} cases, {size} bytes")


if __name__ == "__main__":
    main()
