"""Measures the models of the zoo, and prints docs/models.md's table of them.

    python tests/zoo/table.py ONNXD ZOO_DIR [NAME ...]       (after fetch.py and trained.py)

Each model has a row: milliseconds a run by `onnxd check` and by onnxruntime with one thread (on zeros, five rounds in turn,
the least of the medians), which batches pay (`max_batch_size` 16, if the batch is open), and the resident memory of a
server after one inference. Run it on an idle machine, on one core with taskset.
"""

import http.client
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "models"))
import oracle  # noqa: E402

ROUNDS, SECONDS = 5, 0.5
KINDS = {name: np.dtype(kind) for kind, name in oracle.DATATYPES.items() if kind != "object"}


def described(program, model):
    """OIP's metadata of the only model, and the server's resident MiB after a run on zeros."""
    server = subprocess.Popen(
        [program, "serve", model, "--listen", "127.0.0.1:0", "--workers", "1"], stdout=subprocess.PIPE, text=True
    )
    try:
        for line in server.stdout:
            found = re.search(r"ready on 127\.0\.0\.1:(\d+)", line)
            if found:
                break
        else:
            sys.exit(f"{model}: the server did not start")
        connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=60)
        name = json.loads((Path(model) / "model.json").read_text()).get("name", Path(model).name)
        connection.request("GET", f"/v2/models/{name}")
        metadata = json.loads(connection.getresponse().read())
        body = {"inputs": []}
        for given in metadata["inputs"]:
            shape = [max(1, n) for n in given["shape"]]
            data = np.zeros(shape).ravel().tolist()
            if given["datatype"][0] in "IUB":
                data = [int(n) for n in data]
            body["inputs"].append({**given, "shape": shape, "data": data})
            body["inputs"][-1].pop("parameters", None)
        connection.request("POST", f"/v2/models/{name}/infer", json.dumps(body))
        reply = connection.getresponse().read()
        if b"outputs" not in reply:
            sys.exit(f"{model}: {reply[:300]}")
        status = Path(f"/proc/{server.pid}/status").read_text()
        return metadata, int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024
    finally:
        server.kill()
        server.wait()


def checked(program, model):
    report = subprocess.run([program, "check", model], stdout=subprocess.PIPE, text=True).stdout
    latency = float(re.search(r"latency\s+([0-9.]+) ms", report)[1])
    sizes = re.findall(r"(\d+) rows: [0-9.]+ ms a row, ([0-9.]+) times a single row's rate: used", report)
    return latency, [(int(rows), float(gain)) for rows, gain in sizes]


def reference(session, given):
    times = []
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(times) < 5:
        begun = time.perf_counter()
        session.run(None, given)
        times.append(time.perf_counter() - begun)
    return statistics.median(times) * 1e3


def row(program, model, scratch):
    metadata, resident = described(program, str(model))
    config = json.loads((model / "model.json").read_text())
    given = {
        entry["name"]: np.zeros([max(1, n) for n in entry["shape"]], dtype=KINDS[entry["datatype"]])
        for entry in metadata["inputs"]
    }
    for name, value in config.get("parameters", {}).items():
        given[name] = np.array(value, dtype=np.int64)
    session = oracle.session(model / "model.onnx", optimized=True)
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(checked(program, str(model))[0])
        theirs.append(reference(session, given))
    batches = "the batch is fixed"
    if all(entry["shape"][:1] == [-1] for entry in metadata["inputs"]):
        folder = scratch / model.name
        shutil.copytree(model, folder, ignore=shutil.ignore_patterns("cases"))
        (folder / "model.json").write_text(json.dumps({**config, "max_batch_size": 16}))
        sizes = checked(program, str(folder))[1]
        batches = ", ".join(f"{rows}: {gain:.1f}×" for rows, gain in sizes) or "none"
    ours, theirs = min(ours), min(theirs)
    print(f"| {model.name} | {ours:.3f} | {theirs:.3f} | {ours / theirs:.2f} | {batches} | {resident:.0f} MB |", flush=True)


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    program, zoo, names = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
    models = [zoo / name for name in names] or sorted(p.parent for p in zoo.glob("*/model.json"))
    print("| model | onnxd, ms | onnxruntime, ms | ratio | batches that pay | resident |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        for model in models:
            row(program, model, Path(scratch))


if __name__ == "__main__":
    main()
