"""Compares the events of onnxd with the segments that silero-vad's own function makes.

    pip install -r tests/results/silero-requirements.txt
    pip install --no-deps silero-vad==6.2.3
    python tests/results/with_silero.py target/release/onnxd ZOO_DIR      (after tests/zoo/speech.py)

The recording is sent as a WAV file in messages of random length. silero-vad's function gets the scores that onnxruntime
makes of the same recording. The function does not need torch, but its module imports it, so a module of that name with
nothing inside stands in for it. It fails if the segments are not as many, or if a border differs by more than a window.
"""

import asyncio
import importlib.util
import json
import random
import struct
import sys
import tempfile
import types
from pathlib import Path

import numpy as np
import websockets
from server import serve

WINDOW, RATE = 512, 16000


def silero():
    torch = types.ModuleType("torch")
    torch.Tensor = object
    torch.device = lambda name: name
    torch.no_grad = lambda: lambda function: function
    sys.modules["torch"] = torch
    folder = Path(importlib.util.find_spec("silero_vad").submodule_search_locations[0])
    spec = importlib.util.spec_from_file_location("utils_vad", folder / "utils_vad.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_speech_timestamps_from_probs


def wav(sound):
    riff = struct.pack("<4sI4s", b"RIFF", 36 + len(sound), b"WAVE")
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, RATE, RATE * 2, 2, 16)
    return riff + form + struct.pack("<4sI", b"data", len(sound)) + sound


async def heard(address, sound, dice):
    """The segments that the server tells."""
    async with websockets.connect(f"ws://{address}/?answers=events", max_size=None) as socket:
        file, at = wav(sound), 0
        while at < len(file):
            length = dice.choice([1, 100, 1024, 4000, 30000])
            await socket.send(file[at : at + length])
            at += length
        await socket.send('{"event":"end"}')
        events = []
        while True:
            reply = json.loads(await socket.recv())
            if reply.get("event") == "ended":
                assert reply["stream_offset"] == len(sound) // 2, reply
                break
            events += reply["results"][0]
        starts = [event["at"] for event in events if event["event"] == "start"]
        ends = [event["at"] for event in events if event["event"] == "end"]
        assert len(starts) == len(ends) and len(events) == 2 * len(starts), events
        return list(zip(starts, ends))


def main():
    program, zoo = sys.argv[1], Path(sys.argv[2])
    of_silero, dice = silero(), random.Random(3)
    source = zoo / "streams" / "silero-vad"
    whole = (source / "speech.pcm").read_bytes()
    scores = np.fromfile(source / "expected.bin", dtype="<f4").tolist()
    count, worst = 0, 0
    for threshold, shortest, silence, padding in [
        (0.5, 250, 100, 30),
        (0.3, 250, 100, 30),
        (0.5, 100, 32, 0),
        (0.7, 500, 300, 100),
        (0.9, 250, 2000, 30),
    ]:
        known = of_silero(
            scores,
            sampling_rate=RATE,
            threshold=threshold,
            min_speech_duration_ms=shortest,
            min_silence_duration_ms=silence,
            speech_pad_ms=padding,
            audio_length_samples=len(whole) // 2,
        )
        manifest = json.loads((source / "model.json").read_text())
        manifest["result"] = {
            "kind": "events",
            "output": "output",
            "labels": ["speech"],
            "threshold": threshold,
            "min_length_ms": shortest,
            "min_silence_ms": silence,
            "padding_ms": padding,
        }
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "vad"
            folder.mkdir()
            (folder / "model.onnx").write_bytes((source / "model.onnx").read_bytes())
            (folder / "model.json").write_text(json.dumps(manifest))
            server, address = serve(program, folder)
            try:
                ours = asyncio.run(heard(address, whole, dice))
            finally:
                server.kill()
        print(f"threshold {threshold}: {len(known)} segments, {[(s['start'], s['end']) for s in known]}")
        assert len(ours) == len(known), (ours, known)
        for (start, end), segment in zip(ours, known):
            worst = max(worst, abs(start - segment["start"]), abs(end - segment["end"]))
            count += 1
    print(f"{count} segments: borders within {worst} samples")
    assert count >= 10 and worst <= WINDOW


main()
