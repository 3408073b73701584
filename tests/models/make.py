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


def save(name, nodes, inputs, outputs, constants=(), check=True):
    """Writes <name>/model.onnx into an emptied folder."""
    graph = helper.make_graph(nodes, name, inputs, outputs, list(constants))
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
        producer_name="onnxd-tests",
    )
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
    """A division by zero ends the engine in a panic, not in an error."""
    kind = TensorProto.INT32
    save(
        "divide",
        [node("Div", ["a", "b"], ["q"])],
        [value("a", kind, [1]), value("b", kind, [1])],
        [value("q", kind, [1])],
    )
    seven, two = np.array([7], dtype=np.int32), np.array([2], dtype=np.int32)
    cases("divide", {"seven-by-two": {"a": seven, "b": two}})


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


def make_unsupported():
    """Unique is a standard operator that the engine does not have."""
    save(
        "unsupported",
        [
            node("Relu", ["x"], ["positive"], name="relu"),
            node("Unique", ["positive"], ["y"], name="unique"),
        ],
        [value("x", FLOAT, [4])],
        [value("y", FLOAT, ["M"])],
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
    "dft": make_dft,
    "outside": make_outside,
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
