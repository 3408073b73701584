"""Times tree ensembles in onnxd's engine and in onnxruntime, in turn.

    pip install -r tests/zoo/sklearn-requirements.txt
    python tests/zoo/time.py SCRATCH_DIR

Makes the models (scikit-learn on 10,000 made-up rows of 30 features) and builds examples/time.rs. Then, in each
of several rounds, it times both programs on each model, with one thread each. The figures are the least of the
minima and the median of the medians, in microseconds. onnxruntime is called from Python, with its optimisations;
inputs and outputs are bound once, so that the binding's conversions are not measured.
"""

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime as ort
from skl2onnx import to_onnx
from sklearn.datasets import make_classification, make_regression
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)

ROOT = Path(__file__).resolve().parent.parent.parent
ROUNDS, SECONDS = 5, 0.5
BATCHES = [1, 8]


def models(folder):
    """name -> path; each is made once."""
    width = 30
    x, two = make_classification(10_000, width, n_informative=12, random_state=1)
    _, five = make_classification(10_000, width, n_informative=12, n_classes=5, random_state=1)
    _, value = make_regression(10_000, width, n_informative=12, random_state=1)
    x = x.astype(np.float32)
    makers = {
        "random forest, 100 trees, 2 classes": (RandomForestClassifier(100, random_state=1), two),
        "random forest, 100 trees, 5 classes": (RandomForestClassifier(100, max_depth=10, random_state=1), five),
        "random forest regressor, 100 trees": (RandomForestRegressor(100, max_depth=12, random_state=1), value),
        "gradient boosting, 100 trees, 2 classes": (GradientBoostingClassifier(n_estimators=100, random_state=1), two),
        "gradient boosting, 500 trees, 5 classes": (GradientBoostingClassifier(n_estimators=100, random_state=1), five),
        "gradient boosting regressor, 100 trees": (GradientBoostingRegressor(n_estimators=100, random_state=1), value),
    }
    made = {}
    for at, (name, (model, target)) in enumerate(makers.items()):
        path = folder / f"trees-{at}.onnx"
        if not path.exists():
            options = {"zipmap": False} if "regressor" not in name else {}
            model.fit(x[:8000], target[:8000])
            options = {id(model): options} if options else None
            path.write_bytes(to_onnx(model, x[:1], options=options).SerializeToString())
        made[name] = path
    return made


def numbers(shape):
    """As examples/time.rs makes them."""
    state, values = 1, []
    for _ in range(int(np.prod(shape))):
        state = (state * 1_103_515_245 + 12_345) % (1 << 31)
        values.append(state / (1 << 31) * 4 - 2)
    return np.array(values, dtype=np.float32).reshape(shape)


def onnxruntime_times(sess, batch):
    x = numbers((batch, sess.get_inputs()[0].shape[1]))
    bound = sess.io_binding()
    bound.bind_cpu_input(sess.get_inputs()[0].name, x)
    for output in sess.get_outputs():
        bound.bind_output(output.name)
    times, begun = [], time.perf_counter()
    while time.perf_counter() - begun < SECONDS:
        run = time.perf_counter_ns()
        sess.run_with_iobinding(bound)
        times.append((time.perf_counter_ns() - run) / 1e3)
    return min(times), median(times)


def session(path):
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cargo", "build", "--quiet", "--release", "--example", "time"], cwd=ROOT, check=True)
    program = ROOT / "target" / "release" / "examples" / "time"
    print("| model | batch | onnxd min | median | onnxruntime min | median | ratio of minima |")
    print("|---|---|---|---|---|---|---|")
    for name, path in models(folder).items():
        sess = session(path)
        for batch in BATCHES:
            ours, theirs = [], []
            for _ in range(ROUNDS):
                said = subprocess.check_output([program, str(SECONDS), str(batch), path], text=True)
                ours.append(tuple(map(float, said.split())))
                theirs.append(onnxruntime_times(sess, batch))
            figures = []
            for times in (ours, theirs):
                figures += [min(least for least, _ in times), median(middle for _, middle in times)]
            ratio = figures[0] / figures[2]
            print(f"| {name} | {batch} | " + " | ".join(f"{f:.1f}" for f in figures) + f" | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
