"""Compares the detections of onnxd with those of nudenet's own Python, on the photographs that scikit-image ships.

    pip install -r tests/results/nudenet-requirements.txt
    python tests/results/with_nudenet.py target/release/onnxd

Both get the same files. nudenet cuts its boxes to whole pixels; this is left out, so that small boxes can be compared.
It fails if the labels differ, if a score differs by more than 0.001, or if the overlap of two boxes is less than 0.99.
"""

import json
import sys
import tempfile
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import nudenet.nudenet as theirs
from server import serve

# What nudenet.py does: black below and to the right, OpenCV's linear filter. Its conversion from "RGBA" swaps the
# channels of a file once more, so the model gets blue first.
MANIFEST = {
    "inputs": [
        {
            "name": "images",
            "shape": [-1, 3, 320, 320],
            "image": {
                "color": "bgr",
                "resize": "contain",
                "placement": "top_left",
                "antialias": False,
                "scale": 1 / 255,
            },
        }
    ],
    "result": {"kind": "detections", "decoder": "yolo", "nms": "all", "score_threshold": 0.25, "iou_threshold": 0.45},
}


def photos():
    import importlib.util

    folder = Path(importlib.util.find_spec("skimage").origin).parent / "data"
    for file in sorted(folder.iterdir()):
        if file.suffix not in (".png", ".jpg"):
            continue
        image = cv2.imread(str(file), -1)
        # 16-bit images and masks are no photographs; nudenet cannot read images without colours.
        if image is not None and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
            yield file


def overlap(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    area = lambda box: (box[2] - box[0]) * (box[3] - box[1])
    return both / (area(a) + area(b) - both)


def main():
    theirs.int = float  # the boxes stay exact
    labels = getattr(theirs, "__labels")
    detector = theirs.NudeDetector()
    worst_score, worst_overlap, count, images = 0.0, 1.0, 0, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "nudenet"
        folder.mkdir()
        model = Path(theirs.__file__).parent / "320n.onnx"
        (folder / "model.onnx").write_bytes(model.read_bytes())
        manifest = MANIFEST | {}
        manifest["result"]["labels"] = list(labels)
        (folder / "model.json").write_text(json.dumps(manifest))
        server, address = serve(sys.argv[1], folder)
        try:
            for photo in photos():
                known = detector.detect(str(photo))
                request = urllib.request.Request(f"http://{address}/v2/models/nudenet/infer", photo.read_bytes())
                request.add_header("Content-Type", "application/octet-stream")
                ours = json.load(urllib.request.urlopen(request))["results"][0]
                images += 1
                print(f"{photo.name}: {[(one['class'], round(one['score'], 3)) for one in known]}")
                assert [one["label"] for one in ours] == [one["class"] for one in known], (photo.name, ours, known)
                for one, other in zip(ours, known):
                    left, top, width, height = other["box"]
                    shared = overlap(one["box"], [left, top, left + width, top + height])
                    print(f"    score differs by {one['score'] - other['score']:+.5f}, overlap {shared:.4f}")
                    worst_score = max(worst_score, abs(one["score"] - other["score"]))
                    worst_overlap = min(worst_overlap, shared)
                    count += 1
        finally:
            server.kill()
    print(f"{images} images, {count} detections: scores within {worst_score:.5f}, overlap at least {worst_overlap:.4f}")
    assert count >= 3 and worst_score <= 1e-3 and worst_overlap >= 0.99


main()
