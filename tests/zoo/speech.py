"""Makes a recording for the voice detector of the zoo, and what onnxruntime says of it.

    python tests/zoo/speech.py ZOO_DIR        (after fetch.py; needs espeak-ng)

It writes ZOO_DIR/streams/<model>/ with four files:

    model.onnx    a copy
    model.json    with the state as a sequence, and sound in windows
    speech.pcm    16 kHz, 16 bits: speech by espeak-ng, pauses, noise
    expected.bin  a float for each window, by onnxruntime with the state of the window before

The last window is complete.
"""

import json
import shutil
import subprocess
import sys
import wave
from io import BytesIO
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "models"))
import oracle  # noqa: E402

RATE, WINDOW, CONTEXT = 16000, 512, 64

AUDIO = {"encoding": "pcm_s16le", "sample_rate": RATE, "window": WINDOW, "context": CONTEXT}
STATE = {"input": "state", "output": "stateN"}

# One window at a time; and those of many conversations in batches of the sizes that pay.
STREAMS = {
    "silero-vad": {
        "inputs": [{"name": "input", "audio": AUDIO}],
        "sequence": {"states": [STATE]},
    },
    "silero-vad-sr": {
        "max_batch_size": 32,
        "inputs": [{"name": "input", "shape": [-1, WINDOW + CONTEXT], "audio": AUDIO}],
        "parameters": {"sr": RATE},
        "sequence": {"states": [{**STATE, "batch_axis": 1}]},
    },
}


def say(text, pitch):
    spoken = subprocess.run(
        ["espeak-ng", "-v", "en", "-p", str(pitch), "--stdout", text], stdout=subprocess.PIPE, check=True
    ).stdout
    with wave.open(BytesIO(spoken)) as file:
        rate = file.getframerate()
        # The length in the header of a pipe is made up.
        sound = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").astype(np.float64)
    at = np.arange(0, len(sound) - 1, rate / RATE)
    return np.interp(at, np.arange(len(sound)), sound)


def recording():
    rng = np.random.default_rng(3)

    def hiss(seconds, level):
        return rng.normal(0, level, int(seconds * RATE))

    parts = [
        hiss(1, 30),
        say("The quick brown fox jumps over the lazy dog.", 40),
        hiss(1.5, 300),
        say("Nobody expects a reply before the question.", 60),
        np.zeros(RATE // 2),
        hiss(1, 2000),
    ]
    sound = np.concatenate(parts) + rng.normal(0, 20, sum(map(len, parts)))
    sound = np.clip(np.rint(sound), -32768, 32767).astype("<i2")
    return sound[: len(sound) // WINDOW * WINDOW]


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    if not shutil.which("espeak-ng"):
        sys.exit("espeak-ng is missing: it speaks the recording")
    zoo, sound = Path(sys.argv[1]), recording()
    for name, manifest in STREAMS.items():
        folder = oracle.fresh(zoo / "streams" / name)
        shutil.copy(zoo / name / "model.onnx", folder)
        (folder / "model.json").write_text(json.dumps(manifest, indent=2) + "\n")
        (folder / "speech.pcm").write_bytes(sound.tobytes())
        said = windows(folder / "model.onnx", sound, manifest.get("parameters", {}))
        (folder / "expected.bin").write_bytes(said.astype("<f4").tobytes())
        print(f"{name}: {len(said)} windows, voice in {int((said > 0.5).sum())} of them")
        if not 0.2 < (said > 0.5).mean() < 0.8:
            sys.exit("the recording holds no speech, or nothing else: it would prove nothing")


def windows(model, sound, parameters):
    """The odds of speech in each window, one after the other, the state handed on."""
    sess = oracle.session(model)
    constants = {name: np.array(value, dtype=np.int64) for name, value in parameters.items()}
    padded = np.concatenate([np.zeros(CONTEXT, dtype="<i2"), sound]).astype(np.float32) / np.float32(32768)
    state, said = np.zeros((2, 1, 128), dtype=np.float32), []
    for at in range(0, len(sound), WINDOW):
        given = {"input": padded[at : at + CONTEXT + WINDOW][None], "state": state, **constants}
        result = oracle.run(sess, given)
        said.append(float(result["output"][0, 0]))
        state = result["stateN"]
    return np.array(said)


if __name__ == "__main__":
    main()
