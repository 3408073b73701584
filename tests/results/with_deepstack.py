"""Asks onnxd through deepstack-python, the client of Home Assistant's DeepStack integration, and as Frigate's detector does.

    pip install -r tests/results/deepstack-requirements.txt
    python tests/results/with_deepstack.py target/release/onnxd

It serves two models that find a bright rectangle, one of them with the label `face`, with a token. It fails if an answer is
another one, or if a wrong request does not raise the client's own exception.
"""

import io
import json
import shutil
import tempfile
from pathlib import Path

import requests
import sys
from deepstack.core import DeepstackException, DeepstackFace, DeepstackObject, get_objects_summary
from PIL import Image, ImageDraw
from server import serve

SPOT = Path(__file__).parents[1] / "models" / "spot" / "model.onnx"
BOX = (160, 32, 224, 64)
TOKEN = "a-token"


def photo():
    image = Image.new("RGB", (384, 128))
    ImageDraw.Draw(image).rectangle((BOX[0], BOX[1], BOX[2] - 1, BOX[3] - 1), fill=(255, 255, 255))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=100)
    return file.getvalue()


def model(folder, name, label):
    (folder / name).mkdir()
    shutil.copy(SPOT, folder / name / "model.onnx")
    manifest = {
        "inputs": [{"name": "image", "shape": [1, 3, 64, 96], "image": {"scale": 1 / 255}}],
        "result": {"kind": "detections", "decoder": "yolo", "labels": [label]},
    }
    (folder / name / "model.json").write_text(json.dumps(manifest))


def check(predictions, label):
    [found] = predictions
    assert get_objects_summary(predictions) == {label: 1}, found
    assert found["confidence"] > 0.9, found
    sides = [found[side] for side in ("x_min", "y_min", "x_max", "y_max")]
    assert all(isinstance(side, int) and abs(side - known) <= 4 for side, known in zip(sides, BOX)), found


def fails(part, ask):
    try:
        ask()
    except DeepstackException as error:
        assert part in str(error), error
    else:
        raise AssertionError(f"expected an exception with {part}")


def main():
    file = photo()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "models"
        folder.mkdir()
        model(folder, "cameras", "person")
        model(folder, "faces", "face")
        tokens = Path(name) / "tokens.txt"
        tokens.write_text(TOKEN)
        server, address = serve(sys.argv[1], folder, "--tokens", str(tokens))
        try:
            ip, port = address.split(":")
            access = {"ip": ip, "port": int(port), "api_key": TOKEN}
            check(DeepstackObject(**access).detect(file), "person")
            check(DeepstackObject(**access, custom_model="faces").detect(file), "face")
            check(DeepstackFace(**access).detect(file), "face")
            assert DeepstackObject(**access, min_confidence=1).detect(file) == []
            fails("401", lambda: DeepstackObject(ip=ip, port=int(port), api_key="other").detect(file))
            fails("404", lambda: DeepstackObject(**access, custom_model="nobody").detect(file))
            fails("400", lambda: DeepstackObject(**access).detect(b"no image"))
            # As Frigate's detector asks: it names no threshold.
            answer = requests.post(
                f"http://{address}/v1/vision/detection", data={"api_key": TOKEN}, files={"image": file}, timeout=10
            )
            check(answer.json()["predictions"], "person")
        finally:
            server.kill()
    print("deepstack-python and Frigate's request: 4 answers and 3 errors as expected")


main()
