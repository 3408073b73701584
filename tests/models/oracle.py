"""Oracle cases: what onnxruntime answers for a given input, kept as two files.

make.py and ../zoo/fetch.py import this file.

A case is two files, each laid out as: u32 little-endian length of the JSON,
the JSON, then the bytes of the tensors one after another (little endian, row
major), in the order the JSON names them.

<case>.request.bin   an inference request of the Open Inference Protocol
<case>.expected.bin  onnxruntime's outputs for it (no graph optimisation,
                     one thread)
"""

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import onnxruntime as ort

DATATYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "object": "BYTES",
}


def session(model, optimized=False):
    """An onnxruntime session of a file, or of its bytes, on one thread. It runs the graph as written, unless its speed is
    what matters."""
    options = ort.SessionOptions()
    if not optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(
        model if isinstance(model, bytes) else str(model), options, providers=["CPUExecutionProvider"]
    )


def run(sess, inputs):
    """The outputs by name, in the model's order. Fails on a NaN: a comparison
    with one would say nothing."""
    names = [o.name for o in sess.get_outputs()]
    outputs = dict(zip(names, sess.run(names, inputs)))
    for name, value in outputs.items():
        if np.issubdtype(value.dtype, np.floating) and not np.isfinite(value).all():
            raise ValueError(f"output {name} is not finite")
    return outputs


def frame(body, key, tensors):
    """JSON and tensors in the layout given at the top. body[key] becomes the
    list of tensors."""
    blobs = []
    body[key] = []
    for name, value in tensors.items():
        value = np.asarray(value)
        if value.dtype.kind in "OU":
            # Each string with its length before it, as the protocol has it.
            words = [str(word).encode() for word in value.ravel()]
            blob = b"".join(struct.pack("<I", len(word)) + word for word in words)
        else:
            # tobytes() is row major whatever the array's own layout.
            blob = value.astype(value.dtype.newbyteorder("<")).tobytes()
        body[key].append(
            {
                "name": name,
                "shape": list(value.shape),
                "datatype": "BYTES" if value.dtype.kind in "OU" else DATATYPES[value.dtype.name],
                "parameters": {"binary_data_size": len(blob)},
            }
        )
        blobs.append(blob)
    text = json.dumps(body, separators=(",", ":")).encode()
    return struct.pack("<I", len(text)) + text + b"".join(blobs)


def texts(*sentences):
    """Text as an input of BYTES, for a case's request."""
    return np.array(sentences, dtype=object)


def tokens(tokenizer, sentences, max_length, pad="[PAD]"):
    """What the tokenizer library makes of sentences: cut to max_length, filled
    up to the longest, and nothing of what its file says about both."""
    tokenizer.enable_truncation(max_length=max_length)
    tokenizer.enable_padding(pad_id=tokenizer.token_to_id(pad), pad_token=pad)
    encodings = tokenizer.encode_batch(list(sentences))
    parts = {
        "input_ids": [e.ids for e in encodings],
        "attention_mask": [e.attention_mask for e in encodings],
        "token_type_ids": [e.type_ids for e in encodings],
    }
    return {name: np.array(part, dtype=np.int64) for name, part in parts.items()}


def embedding(hidden, mask):
    """Mean over the tokens that the mask leaves, then length 1, as the models of
    this kind want it."""
    weights = mask[..., None].astype(np.float64)
    mean = (hidden * weights).sum(axis=1) / weights.sum(axis=1)
    return (mean / np.linalg.norm(mean, axis=1, keepdims=True)).astype(np.float32)


def write_case(folder, case, inputs, outputs, wanted=()):
    """wanted: the outputs to ask for, when not all."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    request = {"id": case, "inputs": [], "parameters": {"binary_data_output": True}}
    if wanted:
        request["outputs"] = [{"name": name} for name in wanted]
    (folder / f"{case}.request.bin").write_bytes(frame(request, "inputs", inputs))
    (folder / f"{case}.expected.bin").write_bytes(frame({}, "outputs", outputs))


def fresh(folder):
    """The folder, empty."""
    folder = Path(folder)
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder
