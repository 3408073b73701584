"""Compares regions and texts of onnxd with those of rapidocr's own Python, on rendered pages.

    pip install -r tests/results/rapidocr-requirements.txt
    python tests/results/with_rapidocr.py target/release/onnxd

Both get the same tensors, so that only what follows the models is compared. Then onnxd gets the pages of several sizes as
image files, and prepares them itself. rapidocr cuts corners to whole pixels. It fails if a region is missing or additional,
if a corner is more than 2 pixels away, or if a text is another one.

At last the whole chain is compared, regions, direction and text, on pages of words, some of them upside down. rapidocr cuts
out lines by whole pixels, and pads them to another width, so single texts differ, mostly in their spaces. It fails if more
than one of twenty differs, or one of fifty without spaces.
"""

import json
import sys
import tempfile
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import rapidocr_onnxruntime
from PIL import Image, ImageDraw, ImageFont
from rapidocr_onnxruntime.ch_ppocr_det.utils import DBPostProcess, DetPreProcess
from rapidocr_onnxruntime.ch_ppocr_rec.utils import CTCLabelDecode
from server import serve

MODELS = Path(rapidocr_onnxruntime.__file__).parent / "models"
PAGES = 12
RESULTS = {
    "det": {
        "inputs": [{"name": "x", "shape": [1, 3, 736, 960]}],
        "result": {"kind": "regions", "score_threshold": 0.5, "unclip_ratio": 1.6, "dilation": True},
    },
    # As rapidocr prepares images. The tensor has the size of its image.
    "pages": {
        "inputs": [
            {
                "name": "x",
                "image": {
                    "color": "bgr", "resize": "limit", "shortest": 736, "multiple": 32, "antialias": False,
                    "scale": 1 / 255, "mean": [0.5], "std": [0.5],
                },
            }
        ],
        "result": {"kind": "regions", "score_threshold": 0.5, "unclip_ratio": 1.6, "dilation": True},
    },
    # The characters are in the file's metadata.
    "rec": {"inputs": [{"name": "x", "shape": [1, 3, 48, 320]}], "result": {"kind": "text"}},
}
LINE = {"color": "bgr", "antialias": False, "scale": 1 / 127.5, "mean": [1]}
CHAIN = {
    "ocr": {
        "ensemble_scheduling": {
            "step": [
                {"model_name": "pages", "input_map": {"x": "photo"}, "result": "regions"},
                {
                    "model_name": "cls",
                    "input_map": {"x": {"tensor": "photo", "crop": {"regions": "regions"}}},
                    "output_map": {"save_infer_model/scale_0.tmp_1": "direction"},
                },
                {
                    "model_name": "lines",
                    "input_map": {
                        "x": {
                            "tensor": "photo",
                            "crop": {"regions": "regions", "turn_when": {"tensor": "direction", "class": 1}},
                        }
                    },
                    "result": "texts",
                },
            ]
        }
    },
    "cls": {"public": False, "inputs": [{"name": "x", "shape": [-1, 3, 48, 192], "image": LINE}]},
    "lines": {
        "public": False,
        "inputs": [
            {"name": "x", "image": LINE | {"resize": "contain", "placement": "top_left", "background": [127, 127, 127]}}
        ],
        "shapes": [{"x": [1, 3, 48, width]} for width in range(320, 1281, 64)],
        "result": {"kind": "text"},
    },
}
SIZES = [(960, 736), (700, 500), (1300, 900), (600, 1001)]
FILES = {"det": "ch_PP-OCRv4_det_infer.onnx", "pages": "ch_PP-OCRv4_det_infer.onnx", "rec": "ch_PP-OCRv4_rec_infer.onnx"}
FILES |= {"cls": "ch_ppocr_mobile_v2.0_cls_infer.onnx", "lines": FILES["rec"]}
LETTERS = list("abcdefghijklmnopqrstuvwxyzABCDEFGHKLMNPRSTUVWXYZ0123456789")
WORDS = """the quick brown fox jumps over lazy dog invoice total amount date customer order number street city price quantity
paid due account balance thank you for your business contact email phone address report meeting notes page chapter summary
2024 100 35 1999 42 778""".split()


def random_words(rng):
    return ["".join(rng.choice(LETTERS, int(rng.integers(2, 9)))) for _ in range(4)]


def page(number, words_of=random_words):
    """Lines of words of several sizes, on a sheet that is turned a little."""
    rng = np.random.default_rng(number)
    image = Image.new("RGB", (960, 736), (255, 255, 255))
    draw = ImageDraw.Draw(image)
    for line in range(9):
        font = ImageFont.load_default(size=int(rng.integers(18, 48)))
        words = words_of(rng)
        draw.text((int(rng.integers(10, 200)), 20 + line * 72), " ".join(words), font=font, fill=(0, 0, 0))
    image = image.rotate(float(rng.uniform(-8, 8)), fillcolor=(255, 255, 255), resample=Image.BICUBIC)
    return cv2.cvtColor(np.array(image), cv2.COLOR_RGB2BGR)


def ask(address, model, tensor):
    size = tensor.nbytes
    given = {"name": "x", "shape": tensor.shape, "datatype": "FP32", "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [given]}).encode()
    request = urllib.request.Request(f"http://{address}/v2/models/{model}/infer", head + tensor.tobytes())
    request.add_header("Content-Type", "application/octet-stream")
    request.add_header("Inference-Header-Content-Length", str(len(head)))
    return json.load(urllib.request.urlopen(request))["results"][0]


def ask_file(address, model, image):
    file = cv2.imencode(".png", image)[1].tobytes()
    request = urllib.request.Request(f"http://{address}/v2/models/{model}/infer", file, {"Content-Type": "image/png"})
    return json.load(urllib.request.urlopen(request))["results"][0]


def farthest(known, ours):
    """The largest distance of a known box's corners from those of the nearest of our regions. There are as many."""
    ours = [np.array(region["polygon"]) for region in ours]
    assert len(ours) == len(known), (len(ours), len(known))
    return max(min(np.abs(box - other).max() for other in ours) for box in known)


def session(name):
    return onnxruntime.InferenceSession(str(MODELS / FILES[name]))


def compare_chain(address):
    """How many texts there are, how many are equal, and how many are equal but for their spaces."""
    theirs = rapidocr_onnxruntime.RapidOCR(rec_batch_num=1)
    count, equal, letters = 0, 0, 0
    for number in range(20):
        image = page(number, lambda rng: rng.choice(WORDS, 4))
        if number % 3 == 1:
            image = cv2.rotate(image, cv2.ROTATE_180)
        known, _ = theirs(image)
        ours = ask_file(address, "ocr", image)
        for box, text, _ in known:
            nearest = min(ours, key=lambda line: np.abs(np.array(line["polygon"]) - box).max())
            assert np.abs(np.array(nearest["polygon"]) - box).max() <= 2, (nearest, box)
            count += 1
            equal += nearest["text"] == text
            letters += nearest["text"].replace(" ", "") == text.replace(" ", "")
            if nearest["text"] != text:
                print(f"    page {number}: {text!r}, and ours {nearest['text']!r}")
    return count, equal, letters


def line_of(image, box):
    """The upright part of the page around a box, as a tensor of 48 x 320."""
    (left, top), (right, bottom) = box.min(0), box.max(0)
    line = cv2.resize(image[top:bottom, left:right], (320, 48)).astype(np.float32) / 255
    return np.ascontiguousarray(((line - 0.5) / 0.5).transpose(2, 0, 1)[None])


def main():
    det, rec = session("det"), session("rec")
    regions = DBPostProcess(thresh=0.3, box_thresh=0.5, unclip_ratio=1.6, use_dilation=True)
    read = CTCLabelDecode(character=rec.get_modelmeta().custom_metadata_map["character"].splitlines())
    worst, count, lines, files = 0.0, 0, 0, 0.0
    with tempfile.TemporaryDirectory() as name:
        for model, manifest in (RESULTS | CHAIN).items():
            folder = Path(name) / model
            folder.mkdir()
            if model in FILES:
                (folder / "model.onnx").write_bytes((MODELS / FILES[model]).read_bytes())
            (folder / "model.json").write_text(json.dumps(manifest))
        server, address = serve(sys.argv[1], name)
        try:
            for number in range(PAGES):
                image = page(number)
                tensor = np.ascontiguousarray(DetPreProcess()(image))
                known, _ = regions(det.run(None, {"x": tensor})[0], image.shape[:2])
                worst = max(worst, farthest(known, ask(address, "det", tensor)))
                for box in known:
                    count += 1
                    line = line_of(image, box)
                    (text, score), *_ = read(rec.run(None, {"x": line})[0])[0], None
                    answer = ask(address, "rec", line)
                    assert answer["text"] == text and abs(answer["score"] - score) < 1e-3, (answer, text, score)
                    lines += len(text) > 0
                sized = cv2.resize(image, SIZES[number % len(SIZES)])
                tensor = np.ascontiguousarray(DetPreProcess()(sized))
                known, _ = regions(det.run(None, {"x": tensor})[0], sized.shape[:2])
                files = max(files, farthest(known, ask_file(address, "pages", sized)))
            texts, equal, letters = compare_chain(address)
        finally:
            server.kill()
    print(f"{PAGES} pages, {count} regions: corners within {worst:.2f} pixels; {lines} texts are equal")
    print(f"the same as files of {len(SIZES)} sizes: corners within {files:.2f} pixels")
    print(f"the chain: {equal} of {texts} texts are equal, {letters} without their spaces")
    assert texts > 150 and equal >= texts * 0.95 and letters >= texts * 0.98
    assert count > 50 and lines > 50 and worst <= 2 and files <= 2


main()
