"""The held-out digits as pictures, and the common code of all clients of this check.

    python digits.py FOLDER

writes four digits into FOLDER as LABEL.png, and for clients that cannot draw also
big-LABEL.png, a picture of one of them with more than a megabyte. According to
model/digits/report.json, the model is always right on these classes.
"""

import base64
import io
import json
import sys
import traceback
from pathlib import Path

from PIL import Image, ImageOps

ROOT = Path(__file__).resolve().parents[2]
REPORT = json.loads((ROOT / "model/digits/report.json").read_text())
RECORD = 1 + 28 * 28
_data = (ROOT / "tests/data/digits-heldout.bin").read_bytes()
DIGITS = [(r[0], r[1:]) for r in (_data[i : i + RECORD] for i in range(0, len(_data), RECORD))]
KNOWN = [int(label) for label, share in REPORT["per_class_accuracy"].items() if share == 1.0]

_checks = []


def image(pixels):
    """A digit as the data set has it: 28x28, light on dark."""
    return Image.frombytes("L", (28, 28), pixels)


def invert(picture):
    """The same drawing, dark on light."""
    return ImageOps.invert(picture)


def drawing(pixels, size):
    """A digit enlarged to the height of a larger, dark canvas, in its middle."""
    canvas = Image.new("L", size)
    side = min(size)
    large = image(pixels).resize((side, side), Image.Resampling.BICUBIC)
    canvas.paste(large, ((size[0] - side) // 2, (size[1] - side) // 2))
    return canvas


def png(picture, level=6):
    """A picture as the bytes of a PNG file."""
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=level)
    return file.getvalue()


def b64(data):
    """Bytes as base64 text."""
    return base64.b64encode(data).decode()


def samples(count):
    """`count` digits of classes the model always knows, the classes in turn."""
    by_class = [[digit for digit in DIGITS if digit[0] == label] for label in KNOWN]
    return [by_class[i % len(by_class)][i // len(by_class)] for i in range(count)]


def oip(pictures, **fields):
    """An OIP request of PNG files in base64."""
    tensor = {"name": "image", "shape": [len(pictures)], "datatype": "BYTES", "data": [b64(p) for p in pictures]}
    return {**fields, "inputs": [tensor]}


def label(entry):
    """The label of a classification entry "<score>:<index>:<label>"."""
    score, index, name = entry.split(":")
    equal(name, index, "the name of the class")
    assert 0 <= float(score) <= 1, f"the score {score} is not a probability"
    return int(name)


def best(reply):
    """The best label of each picture of a parsed OIP reply with three classes a picture."""
    assert "outputs" in reply, f"expected outputs, got {reply}"
    equal((reply["model_name"], reply["model_version"]), ("digits", "1"), "the model")
    [output] = reply["outputs"]
    rows = output["shape"][0]
    equal((output["name"], output["datatype"], output["shape"]), ("logits", "BYTES", [rows, 3]), "the output")
    equal(len(output["data"]), 3 * rows, "the number of elements")
    return [label(output["data"][3 * row]) for row in range(rows)]


def equal(got, expected, what):
    """Fails unless the two are the same."""
    assert got == expected, f"{what}: expected {expected!r}, got {got!r}"


def check(name):
    """Marks a function as the check `name`."""

    def mark(function):
        _checks.append((name, function))
        return function

    return mark


def run_checks():
    """Runs the checks in order, prints a line for each, and exits 1 when one failed."""
    failed = 0
    for name, function in _checks:
        try:
            function()
            print("ok", name, flush=True)
        except Exception as error:
            failed += 1
            why = " ".join(str(error).split()) or type(error).__name__
            print(f"FAILED {name}: {why}", flush=True)
            if not isinstance(error, AssertionError):
                traceback.print_exc()
    sys.exit(failed > 0)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for value, pixels in samples(4):
        (folder / f"{value}.png").write_bytes(png(image(pixels)))
    value, pixels = samples(1)[0]
    (folder / f"big-{value}.png").write_bytes(png(drawing(pixels, (1200, 1000)), level=0))
