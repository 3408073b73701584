"""Compares a chain of onnxd with openwakeword's own Python: sound → spectrogram → embedding → wake word.

    pip install -r tests/results/openwakeword-requirements.txt
    pip install --no-deps openwakeword==0.5.1
    python tests/results/with_openwakeword.py target/release/onnxd ZOO_DIR      (after tests/zoo/speech.py)

Both hear the same recording, openwakeword in pieces of 80 ms, onnxd in messages of random length. openwakeword begins with
random embeddings, so the first two seconds are left out. It fails if a score differs by more than 0.001.
"""

import asyncio
import json
import random
import sys
import tempfile
from pathlib import Path

import numpy as np
import openwakeword
import websockets
from server import serve

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "zoo"))
import speech  # noqa: E402

WINDOW, RATE = 1280, 16000

# What AudioFeatures of openwakeword does: x / 10 + 2; windows of 76 frames, 8 apart, after a spectrogram of ones; and the
# newest 16 embeddings.
CHAIN = {
    "ensemble_scheduling": {
        "step": [
            {"model_name": "mel", "input_map": {"input": "sound"}, "output_map": {"output": "frames"}},
            {
                "model_name": "embedding",
                "input_map": {
                    "input_1": {
                        "tensor": "frames",
                        "scale": 0.1,
                        "offset": 2,
                        "window": {"axis": 2, "size": 76, "hop": 8, "initial": 1},
                        "reshape": [1, 76, 32, 1],
                    }
                },
                "output_map": {"conv2d_19": "embeddings"},
            },
            {
                "model_name": "alexa",
                "input_map": {
                    "onnx::Flatten_0": {
                        "tensor": "embeddings",
                        "window": {"axis": 0, "size": 16, "hop": 1},
                        "reshape": [1, 16, 96],
                    }
                },
                "output_map": {"13": "score"},
            },
        ]
    },
    "result": {"kind": "events", "form": "hits", "labels": ["alexa"], "threshold": 0.5, "cool_down_ms": 1000},
}
MANIFESTS = {
    "wake": CHAIN,
    "mel": {
        "public": False,
        "inputs": [
            {
                "name": "input",
                "shape": [1, WINDOW + 480],
                "audio": {"sample_rate": RATE, "window": WINDOW, "context": 480, "scale": 1},
            }
        ],
    },
    "embedding": {"public": False},
    "alexa": {"public": False},
}
FILES = {"mel": "melspectrogram.onnx", "embedding": "embedding_model.onnx", "alexa": "alexa_v0.1.onnx"}


async def heard(address, sound):
    """The events."""
    dice = random.Random(5)
    events = []
    async with websockets.connect(f"ws://{address}/?results=true", max_size=None) as socket:
        at = 0
        while at < len(sound):
            length = dice.choice([2, 101, 1024, 5000, 20000])
            await socket.send(sound[at : at + length])
            at += length
        await socket.send('{"event":"end"}')
        while True:
            reply = json.loads(await socket.recv())
            if reply.get("event") == "ended":
                return events
            assert "error" not in reply, reply
            events += reply["results"][0]


async def scores_of(address, sound):
    """The score of each window; an empty list where there is none yet."""
    async with websockets.connect(f"ws://{address}/?results=false", max_size=None) as socket:
        for at in range(0, len(sound), 3333):
            await socket.send(sound[at : at + 3333])
        await socket.send('{"event":"end"}')
        scores = []
        while True:
            reply = json.loads(await socket.recv())
            if reply.get("event") == "ended":
                return scores
            assert "error" not in reply, reply
            scores.append(reply["outputs"][0]["data"])


def wake_words():
    """Somebody says the wake word a few times."""
    parts = []
    for pitch in (30, 50, 70):
        for text in ("alexa", "hey alexa"):
            parts += [speech.say(text, pitch), np.zeros(RATE)]
    return np.concatenate(parts).clip(-32768, 32767).astype("<i2").tobytes()


def main():
    program, zoo = sys.argv[1], Path(sys.argv[2])
    models = Path(openwakeword.__file__).parent / "resources" / "models"
    sound = (zoo / "streams" / "silero-vad" / "speech.pcm").read_bytes() + wake_words()
    sound = sound[: len(sound) // (2 * WINDOW) * 2 * WINDOW]
    samples = np.frombuffer(sound, dtype="<i2")
    theirs = openwakeword.Model(wakeword_models=[str(models / FILES["alexa"])], inference_framework="onnx")
    known = [theirs.predict(samples[at : at + WINDOW])["alexa_v0.1"] for at in range(0, len(samples), WINDOW)]
    with tempfile.TemporaryDirectory() as name:
        for model, manifest in MANIFESTS.items():
            folder = Path(name) / model
            folder.mkdir()
            (folder / "model.json").write_text(json.dumps(manifest))
            if model in FILES:
                (folder / "model.onnx").write_bytes((models / FILES[model]).read_bytes())
        server, address = serve(program, Path(name))
        try:
            scores = asyncio.run(scores_of(address, sound))
            events = asyncio.run(heard(address, sound))
        finally:
            server.kill()
    assert len(scores) == len(known), (len(scores), len(known))
    first = 26  # ten pieces fill the spectrogram, and 16 embeddings follow
    # The first windows wait for 16 embeddings, and have no score.
    assert all(len(score) == (0 if at < 15 else 1) for at, score in enumerate(scores)), scores[:20]
    worst = max(abs(ours[0] - theirs) for ours, theirs in zip(scores[first:], known[first:]))
    print(f"{len(scores)} pieces, highest score {max(known):.4f}; scores within {worst:.6f}; events {events}")
    above = [at for at, score in enumerate(scores) if score and score[0] >= 0.5]
    assert bool(above) == bool(events), (above, events)
    assert worst <= 1e-3


main()
