"""Valid requests of every kind, and the folder of models that they are for."""

import base64
import json
import pathlib
import shutil
import struct

import images
from wire import upgrade

ROOT = pathlib.Path(__file__).resolve().parents[2]
AUDIO = {"encoding": "pcm_s16le", "sample_rate": 8000, "window": 4, "hop": 3, "context": 2}
STATES = [{"input": "state", "output": "state_out", "batch_axis": 1}]
# Name, folder, and a model.json where the folder has none.
MODELS = [
    ("affine", "tests/models/affine", None),
    ("digits", "model/digits", None),
    ("picture", "tests/models/imageu8", {"inputs": [{"name": "image", "image": {"layout": "NHWC"}}]}),
    ("running", "tests/models/running", {"max_batch_size": 8, "sequence": {"states": STATES, "max_sequences": 64}}),
    ("windows", "tests/models/windows", {"inputs": [{"name": "x", "audio": AUDIO}]}),
    ("embed", "tests/models/embed", None),
    ("types", "tests/models/types", None),
    ("pair", "tests/models/pair", None),
    ("open", "tests/models/open", None),
]


def repository(folder, extra):
    """Makes a folder with all models; `extra` is one more, called `extra`."""
    for name, place, manifest in MODELS:
        target = folder / name
        shutil.copytree(ROOT / place, target, ignore=shutil.ignore_patterns("cases", "*.py", "*.md"))
        if manifest is not None:
            (target / "model.json").write_text(json.dumps(manifest))
    if extra:
        extra = pathlib.Path(extra).resolve()
        (folder / "extra").mkdir()
        if extra.is_dir():
            shutil.copytree(extra, folder / "extra", dirs_exist_ok=True)
            manifest = folder / "extra/model.json"
            if manifest.exists():
                manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "name": "extra"}))
        else:
            shutil.copy(extra, folder / "extra/model.onnx")


def number(rng):
    pick = rng.randrange(6)
    if pick < 3:
        return rng.randint(-100, 100)
    return rng.choice([0.5, -0.25, 1e10, -3e-7, 16777217, 1e-42, 3e38, 2.5]) if pick == 3 else rng.uniform(-1000, 1000)


def rows(rng, columns, most=5):
    return [[number(rng) for _ in range(columns)] for _ in range(min(most, rng.choice([1, 1, 2, 5])))]


def of_x(rng, columns, id=None, most=5):
    """A request for one input `x` of FP32."""
    given = rows(rng, columns, most)
    data = given if rng.random() < 0.5 else [one for row in given for one in row]
    asked = {"inputs": [{"name": "x", "shape": [len(given), columns], "datatype": "FP32", "data": data}]}
    if id is not None:
        asked["id"] = id
    if rng.random() < 0.2:
        asked["outputs"] = rng.choice([[], [{"name": "y"}], [{"name": "y", "parameters": {"binary_data": False}}]])
    if rng.random() < 0.2:
        asked["parameters"] = rng.choice([{}, {"timeout": 5_000_000}, {"unknown": [1]}, {"binary_data_output": False}])
    return asked


def sequence_step(rng, names):
    """A step of a sequence with one row, for the model `running`."""
    asked = of_x(rng, 2, most=1)
    asked["inputs"][0].update(shape=[1, 2], data=[rng.randint(-99, 99), rng.randint(-99, 99)])
    asked.pop("outputs", None)
    parameters = {}
    if rng.random() < 0.6:
        parameters["sequence_id"] = rng.choice(names)
    for name in ("sequence_start", "sequence_end"):
        if rng.random() < 0.2:
            parameters[name] = True
    if parameters:
        asked["parameters"] = parameters
    return asked


def begin(asked, begun):
    """Makes a step begin its sequence, if that has to be begun. `begun` are the names that are."""
    parameters = asked.get("parameters", {})
    name = parameters.get("sequence_id") or None
    if name is None:
        return
    if str(name) not in begun:
        parameters["sequence_start"] = True
    begun.add(str(name))
    if parameters.get("sequence_end"):
        begun.discard(str(name))


def of_types(rng):
    kinds = ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64"]

    def four(kind):
        if kind == "BOOL":
            return [True, False, False, True]
        return [0, 1, 100, 7] if kind[0] == "U" else [-1, 0, 100, 7]

    return {"inputs": [{"name": kind.lower(), "shape": [2, 2], "datatype": kind, "data": four(kind)} for kind in kinds]}


def of_pair(rng):
    count = rng.choice([1, 3])
    inputs = [{"name": name, "shape": [count, 2], "datatype": "FP32", "data": [number(rng) for _ in range(2 * count)]} for name in "ab"]
    return {"inputs": inputs}


def of_open(rng):
    count, length = rng.choice([(1, 1), (2, 3), (7, 16)])
    return {"inputs": [{"name": "x", "shape": [count, length], "datatype": "FP32", "data": [1.5] * (count * length)}]}


def of_image(rng, files):
    texts = [base64.b64encode(file).decode() for file in files]
    if rng.random() < 0.3:
        return {"instances": [rng.choice([text, {"b64": text}, {"image": text}]) for text in texts]}
    return {"inputs": [{"name": "image", "shape": [len(files)], "datatype": "BYTES", "data": texts}]}


SENTENCES = ["the cat", "A typed sentence.", "", "naïve café", "日本語", "x" * 300, "\u202etext", "a\0b", "👩‍👩‍👧", "the " * 50]


def of_text(rng):
    given = [rng.choice(SENTENCES) for _ in range(rng.choice([1, 2, 3]))]
    if rng.random() < 0.5:
        return {"instances": given}
    return {"inputs": [{"name": "input_ids", "shape": [len(given)], "datatype": "BYTES", "data": given}]}


def of_rows(rng):
    given = rows(rng, 3)
    return {"instances": [rng.choice([row, {"x": row}]) for row in given]}


def with_tensors(rng, id=None):
    """JSON and the tensors' bytes behind it."""
    given = rows(rng, 3)
    data = struct.pack(f"<{3 * len(given)}f", *(one for row in given for one in row))
    asked = {"inputs": [{"name": "x", "shape": [len(given), 3], "datatype": "FP32", "parameters": {"binary_data_size": len(data)}}]}
    if id is not None:
        asked["id"] = id
    if rng.random() < 0.5:
        asked["parameters"] = {"binary_data_output": True}
    elif rng.random() < 0.3:
        asked["outputs"] = [{"name": "y", "parameters": {"binary_data": True}}]
    return asked, data


def raw(rng):
    """The bytes of the model affine's input."""
    given = [float(number(rng)) for _ in range(3 * rng.choice([1, 2, 5]))]
    return struct.pack(f"<{len(given)}f", *given)


def form(rng, file, boundary="fuzzboundary"):
    lines = f'--{boundary}\r\nContent-Disposition: form-data; name="note"\r\n\r\nx\r\n' if rng.random() < 0.3 else ""
    lines += f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    return lines.encode() + file + f"\r\n--{boundary}--\r\n".encode()


def get(target, method="GET", lines=()):
    return "".join(f"{line}\r\n" for line in (f"{method} {target} HTTP/1.1", "Host: fuzz", *lines, "")).encode()


def post(model, body, kind="application/json", lines=(), query="", length=True):
    """The head of a POST and its body."""
    lines = [f"Content-Type: {kind}"] * bool(kind) + list(lines)
    lines.append(f"Content-Length: {len(body)}" if length else "Transfer-Encoding: chunked")
    return get(f"/v2/models/{model}/infer{query}", "POST", lines), body


def converse(model, query="", headers=""):
    return upgrade(f"/v2/models/{model}{query}", headers)


def image(rng):
    return images.sample(rng)
