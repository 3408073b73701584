"""Times the making of detections beside OpenCV's, on the same arrays and one core each.

    python benches/results.py        (needs cargo, numpy and opencv-python-headless)

OpenCV's part is `dnn.NMSBoxes` alone: its boxes and scores are ready. Decoding with numpy is a line of its own.
"""

import os
import subprocess
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

CANDIDATES = (20, 200, 8400)


def least(run, count=100):
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        run()
        times.append(time.perf_counter() - begun)
    times.sort()
    return f"{times[count // 2] * 1e3:.3f} ms (least {times[0] * 1e3:.3f})"


def decode(output):
    scores = output[4:].max(0)
    own = np.flatnonzero(scores > 0.25)
    center, size = output[:2, own], output[2:4, own]
    boxes = np.concatenate([center - size / 2, size]).T
    return boxes, scores[own], output[4:, own].argmax(0)


cv2.setNumThreads(1)
with tempfile.TemporaryDirectory() as folder:
    arrays = Path(folder) / "arrays"
    root = Path(__file__).resolve().parent.parent
    command = ["cargo", "bench", "--locked", "--bench", "results"]
    print("onnxd")
    subprocess.run(command, cwd=root, env=os.environ | {"ONNXD_BENCH_ARRAYS": str(arrays)}, check=True)
    outputs = np.fromfile(arrays, np.float32).reshape(len(CANDIDATES), 84, 8400)
print("OpenCV and numpy")
for candidates, output in zip(CANDIDATES, outputs):
    boxes, scores, _ = decode(output)
    boxes = boxes.tolist()
    suppressed = least(lambda: cv2.dnn.NMSBoxes(boxes, scores, 0.25, 0.45, top_k=0))
    kept = len(cv2.dnn.NMSBoxes(boxes, scores, 0.25, 0.45))
    print(f"{candidates} candidates: {suppressed} to suppress, {least(lambda: decode(output))} to decode, {kept} detections")
