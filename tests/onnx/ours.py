"""Small models that once went wrong, and others of the same kinds. Each has a name that says what it is about.

The text is ONNX's own syntax. `weights` are constants with random values, by name and shape; `given` are the inputs. The
expected outputs are those of onnxruntime without optimisations, or of the reference evaluator where onnxruntime does not
have the operator.
"""

import numpy as np
import onnx.parser
from onnx import numpy_helper
from onnx.backend.test.case.test_case import TestCase

HEAD = '<ir_version: 8, opset_import: ["" : {version}]>\n'
QDQ = "xq = QuantizeLinear (x, si, zi) xd = DequantizeLinear (xq, si, zi) "
SCALES = "<float si = {0.1}, uint8 zi = {128}, float so = {0.003921569}, uint8 zo = {0}>"


def normal(*shape):
    return ("normal", shape)


def recurrent(operator, gates, attributes, outputs="Y, Y_h", x="4,2,3", directions=1, version=14, more=""):
    """A recurrent operator with hidden size 5 over `x`, which is [time, batch, 3]."""
    names = [name for name in outputs.replace('""', "").replace(" ", "").split(",") if name]
    declared = ", ".join(f"float[] {name}" for name in names)
    text = f"g (float[{x}] X) => ({declared}) {{ {outputs} = {operator} <hidden_size = 5 {attributes}> (X, W, R, B{more}) }}"
    rows = gates * 5
    weights = {"W": (directions, rows, 3), "R": (directions, rows, 5), "B": (directions, 2 * rows)}
    return {"text": text, "weights": weights, "given": {"X": normal(4, 2, 3)}, "version": version}


def plain(text, given, version=17, weights=None):
    return {"text": text, "given": given, "version": version, "weights": weights or {}}


LARGE = np.array([[1000.0, 1001.0, -1000.0]], np.float32)
IDS = np.array([[5, 6, 7, 8, 1, 1]], np.int64)
CASES = {
    # Attributes of LSTM, GRU and RNN.
    "rnn_with_relu": recurrent("RNN", 1, ', activations = ["Relu"]'),
    "lstm_with_hardsigmoid": recurrent("LSTM", 4, ', activations = ["HardSigmoid","Tanh","Tanh"]', 'Y, Y_h, ""'),
    "gru_with_clip": recurrent("GRU", 3, ", clip = 0.3"),
    "lstm_with_alpha_and_beta": recurrent(
        "LSTM", 4, ', activations = ["HardSigmoid","Affine","ScaledTanh"], activation_alpha = [0.3,0.9,1.1], activation_beta = [0.4,0.1,0.7]'
    ),
    "lstm_in_reverse": recurrent("LSTM", 4, ', direction = "reverse"', "Y, Y_h, Y_c"),
    "gru_bidirectional_linear_before_reset": recurrent("GRU", 3, ', direction = "bidirectional", linear_before_reset = 1', directions=2),
    # Recurrent operators with an open or larger batch.
    "lstm_with_an_open_batch": plain(
        'g (float[b,4,3] x) => (float[b,5] y) { xt = Transpose <perm = [1,0,2]> (x) n, yh = LSTM <hidden_size = 5> (xt, W, R, B)'
        " yt = Transpose <perm = [1,0,2]> (yh) shp = Constant <value_ints = [-1,5]> () y = Reshape (yt, shp) }",
        {"x": normal(2, 4, 3)},
        14,
        {"W": (1, 20, 3), "R": (1, 20, 5), "B": (1, 40)},
    ),
    "lstm_with_a_batch_of_two_and_its_cell": recurrent("LSTM", 4, "", 'Y, "", Y_c'),
    "gru_with_open_batch_and_time": recurrent("GRU", 3, "", x="t,b,3"),
    "rnn_with_open_time": recurrent("RNN", 1, "", x="t,2,3"),
    "lstm_bidirectional_with_an_open_batch": recurrent("LSTM", 4, ', direction = "bidirectional"', x="4,b,3", directions=2),
    # Logarithms of sums of exponentials.
    "reducelogsumexp_of_large_numbers": plain("g (float[1,3] x) => (float[1,1] y) { y = ReduceLogSumExp <axes = [1]> (x) }", {"x": LARGE}),
    "logsoftmax_of_large_numbers": plain("g (float[1,3] x) => (float[1,3] y) { y = LogSoftmax <axis = -1> (x) }", {"x": LARGE}),
    "softplus_of_large_numbers": plain("g (float[1,3] x) => (float[1,3] y) { y = Softplus (x) }", {"x": LARGE}),
    "reducelogsumexp_over_a_middle_axis": plain(
        "g (float[2,3,4] x) => (float[2,1,4] y) { y = ReduceLogSumExp <axes = [1]> (x) }", {"x": ("large", (2, 3, 4))}
    ),
    "logsoftmax_over_the_first_axis": plain("g (float[3,2] x) => (float[3,2] y) { y = LogSoftmax <axis = 0> (x) }", {"x": ("large", (3, 2))}),
    "softmax_of_infinities": plain(
        "g (float[2,3] x) => (float[2,3] y) { y = Softmax <axis = -1> (x) }",
        {"x": np.array([[-np.inf, 0, 1], [-np.inf, 3, 3]], np.float32)},
    ),
    # Attributes of activations.
    "celu_with_alpha": plain("g (float[5] x) => (float[5] y) { y = Celu <alpha = 2.0> (x) }", {"x": normal(5)}),
    "swish_with_alpha": plain("g (float[3] x) => (float[3] y) { y = Swish <alpha = 1.702> (x) }", {"x": normal(3)}, 24),
    "hardsigmoid_with_alpha_and_beta": plain("g (float[9] x) => (float[9] y) { y = HardSigmoid <alpha = 0.4, beta = 0.3> (x) }", {"x": normal(9)}),
    "selu_with_gamma": plain("g (float[9] x) => (float[9] y) { y = Selu <alpha = 2.0, gamma = 3.0> (x) }", {"x": normal(9)}),
    "gelu_with_tanh": plain('g (float[9] x) => (float[9] y) { y = Gelu <approximate = "tanh"> (x) }', {"x": normal(9)}, 20),
    # Slices of open axes with finite ends.
    "slice_of_an_open_axis": plain(
        "g (float[b,t,4] x) => (float[b,u,4] y) { s = Constant <value_ints = [0]> () e = Constant <value_ints = [512]> ()"
        " a = Constant <value_ints = [1]> () y = Slice (x, s, e, a) }",
        {"x": normal(1, 10, 4)},
    ),
    "slice_from_the_end_of_an_open_axis": plain(
        "g (float[b,t,4] x) => (float[b,u,4] y) { s = Constant <value_ints = [-3]> () e = Constant <value_ints = [9999]> ()"
        " a = Constant <value_ints = [1]> () y = Slice (x, s, e, a) }",
        {"x": normal(1, 10, 4)},
    ),
    "slice_backwards": plain(
        "g (float[b,t,4] x) => (float[b,u,4] y) { s = Constant <value_ints = [-1]> () e = Constant <value_ints = [-9999]> ()"
        " a = Constant <value_ints = [1]> () p = Constant <value_ints = [-2]> () y = Slice (x, s, e, a, p) }",
        {"x": normal(1, 10, 4)},
    ),
    "slice_with_an_end_that_is_an_input": plain(
        "g (float[1,10] x, int64[1] e) => (float[1,u] y) { s = Constant <value_ints = [2]> () a = Constant <value_ints = [1]> ()"
        " y = Slice (x, s, e, a) }",
        {"x": normal(1, 10), "e": np.array([7], np.int64)},
    ),
    # Counting on values that came from a cast.
    "positions_of_tokens": plain(
        "g (int64[b,t] x) => (int64[b,t] y) { p = Constant <value_int = 1> () e = Equal (x, p) n = Not (e) c = Cast <to = 7> (n)"
        " a = Constant <value_int = 1> () s = CumSum (c, a) m = Mul (s, c) y = Add (m, p) }",
        {"x": IDS},
    ),
    "length_of_a_mask": plain(
        "g (int64[b,t] x) => (int64[b] y) { p = Constant <value_int = 1> () e = Equal (x, p) n = Not (e) c = Cast <to = 7> (n)"
        " a = Constant <value_ints = [1]> () y = ReduceSum <keepdims = 0> (c, a) }",
        {"x": IDS},
    ),
    "length_of_a_mask_in_float": plain(
        "g (int64[b,t] x) => (float[b,1] y) { p = Constant <value_int = 1> () e = Equal (x, p) c = Cast <to = 1> (e)"
        " a = Constant <value_ints = [1]> () y = ReduceSum (c, a) }",
        {"x": IDS},
    ),
    "shape_of_a_cast": plain(
        "g (int64[b,t] x) => (int64[2] y) { c = Cast <to = 1> (x) s = Shape (c) o = Constant <value_ints = [1,1]> () y = Add (s, o) }",
        {"x": IDS},
    ),
    # Half and double precision.
    "gemm_in_half_precision": plain(
        "g (float16[2,4] x) => (float16[2,3] y) <float16[4,3] w = {1,2,3,4,1,2,3,4,1,2,3,4}, float16[3] b = {0,0,1}> { y = Gemm (x, w, b) }",
        {"x": ("half", (2, 4))},
    ),
    "gemm_in_double_precision": plain(
        "g (double[2,4] x) => (double[2,3] y) <double[4,3] w = {1,2,3,4,1,2,3,4,1,2,3,4}, double[3] b = {0,0,1}> { y = Gemm (x, w, b) }",
        {"x": ("double", (2, 4))},
    ),
    "layernorm_in_half_precision": plain(
        "g (float16[2,4] x) => (float16[2,4] y) <float16[4] w = {1,2,3,4}, float16[4] b = {0,0,1,1}> { y = LayerNormalization (x, w, b) }",
        {"x": ("half", (2, 4))},
    ),
    "a_sum_in_half_precision_that_overflows_in_between": plain(
        "g (float16[1,512] x) => (float16[1,1] y) { y = ReduceMean <axes = [1]> (x) }", {"x": np.full((1, 512), 1000, np.float16)}
    ),
    # Resizing to another tensor's shape.
    "resize_to_a_shape": plain(
        "g (float[1,1,h,w] x) => (float[1,1,h,w] y) <float[1,1,3,3] w0 = {1,2,3,4,5,6,7,8,9}> { c = Conv <kernel_shape = [3,3], strides = [2,2], pads = [1,1,1,1]>"
        ' (x, w0) s = Shape (x) y = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"> (c, "", "", s) }',
        {"x": normal(1, 1, 8, 12)},
        13,
    ),
    "resize_linear_to_a_shape": plain(
        "g (float[1,1,h,w] x) => (float[1,1,h,w] y) { p = MaxPool <kernel_shape = [2,2], strides = [2,2]> (x) s = Shape (x)"
        ' y = Resize <mode = "linear", coordinate_transformation_mode = "half_pixel"> (p, "", "", s) }',
        {"x": normal(1, 1, 8, 12)},
        13,
    ),
    "resize_to_sizes_of_an_input": plain(
        'g (float[1,1,4,6] x, int64[4] s) => (float[a,b,c,d] y) { y = Resize <mode = "linear"> (x, "", "", s) }',
        {"x": normal(1, 1, 4, 6), "s": np.array([1, 1, 7, 9], np.int64)},
        13,
    ),
    "resize_by_open_scales": plain(
        'g (float[1,1,h,w] x) => (float[1,1,a,b] y) { k = Constant <value_floats = [1.0,1.0,2.0,3.0]> () y = Resize <mode = "nearest"> (x, "", k) }',
        {"x": normal(1, 1, 4, 5)},
        13,
    ),
    # Negative pads.
    "pad_with_a_negative_end": plain(
        "g (float[1,1,4,5] x) => (float[1,1,3,5] y) { p = Constant <value_ints = [0,0,0,0,0,0,-1,0]> () y = Pad (x, p) }", {"x": normal(1, 1, 4, 5)}
    ),
    "pad_with_both_signs": plain(
        "g (float[1,1,4,5] x) => (float[1,1,4,4] y) { p = Constant <value_ints = [0,0,1,-2,0,0,-1,1]> () y = Pad (x, p) }", {"x": normal(1, 1, 4, 5)}
    ),
    "pad_reflecting_with_a_negative_begin": plain(
        'g (float[1,1,4,5] x) => (float[1,1,5,4] y) { p = Constant <value_ints = [0,0,-1,1,0,0,2,-2]> () y = Pad <mode = "reflect"> (x, p) }',
        {"x": normal(1, 1, 4, 5)},
    ),
    "pad_by_an_input": plain(
        "g (float[2,3] x, int64[4] p) => (float[a,b] y) { y = Pad (x, p) }", {"x": normal(2, 3), "p": np.array([0, 1, 2, 0], np.int64)}
    ),
    # Padding that is written twice.
    "conv_with_auto_pad_and_pads_of_zero": plain(
        'g (float[1,1,7,5] x) => (float[1,1,4,3] y) { y = Conv <auto_pad = "SAME_LOWER", pads = [0,0,0,0], strides = [2,2]> (x, w) }',
        {"x": normal(1, 1, 7, 5)},
        weights={"w": (1, 1, 3, 3)},
    ),
    # Numbers of FP64 that become FP32.
    "layernorm_in_double_precision_with_its_mean": plain(
        "g (double[2,4] x, double[4] w) => (double[2,4] y, float[2,1] m) { y, m = LayerNormalization (x, w) }",
        {"x": ("double", (2, 4)), "w": ("double", (4,))},
    ),
    # Activations at the ends of their range.
    "mish_at_minus_infinity": plain(
        "g (float[3] x) => (float[3] y) { y = Mish (x) }", {"x": np.array([-np.inf, -1e30, np.inf], np.float32)}, 18
    ),
    "gelu_at_minus_infinity": plain(
        "g (float[3] x) => (float[3] y) { y = Gelu (x) }", {"x": np.array([-np.inf, -1e30, np.inf], np.float32)}, 20
    ),
    # A window of integers, of which the fraction is cut off.
    "blackman_window_of_integers": plain(
        "g (int32 n) => (int64[l] y) { y = BlackmanWindow <output_datatype = 7> (n) }", {"n": np.array(10, np.int32)}
    ),
    # DequantizeLinear, an operator, QuantizeLinear.
    "softmax_between_quantizations": plain(
        f"g (float[1,4] x) => (float[1,4] y) {SCALES} {{ {QDQ} s = Softmax <axis = -1> (xd) sq = QuantizeLinear (s, so, zo) y = DequantizeLinear (sq, so, zo) }}",
        {"x": normal(1, 4)},
    ),
    "sigmoid_between_quantizations": plain(
        f"g (float[1,4] x) => (float[1,4] y) {SCALES} {{ {QDQ} s = Sigmoid (xd) sq = QuantizeLinear (s, so, zo) y = DequantizeLinear (sq, so, zo) }}",
        {"x": normal(1, 4)},
    ),
    "mean_between_quantizations": plain(
        f"g (float[1,4] x) => (float[1,1] y) {SCALES} {{ {QDQ} s = ReduceMean <axes = [1]> (xd) sq = QuantizeLinear (s, si, zi) y = DequantizeLinear (sq, si, zi) }}",
        {"x": normal(1, 4)},
    ),
    "product_between_quantizations": plain(
        f"g (float[1,4] x) => (float[1,4] y) {SCALES} {{ {QDQ} s = MatMul (xd, w) sq = QuantizeLinear (s, si, zi) y = DequantizeLinear (sq, si, zi) }}",
        {"x": normal(1, 4)},
        weights={"w": (4, 4)},
    ),
}
LOCAL = '<ir_version: 8, opset_import: ["" : 17, "local" : 1]>\n'
FUNCTION = '\n<domain: "local", opset_import: ["" : 17]>\n'
# Functions that a model contains.
FUNCTIONS = {
    "a_local_function": "g (float[N,3] x) => (float[N,3] y) { y = local.twice (x) }" + FUNCTION + "twice (a) => (b) { b = Add (a, a) }",
    "a_local_function_with_an_attribute": "g (float[N,3] x) => (float[N,3] y) { y = local.leak <slope = 0.3> (x) }"
    + FUNCTION
    + "leak <slope> (a) => (b) { b = LeakyRelu <alpha: float = @slope> (a) }",
    "a_local_function_within_another": "g (float[N,3] x) => (float[N,3] y) { y = local.four (x) }"
    + FUNCTION.replace('["" : 17]', '["" : 17, "local" : 1]')
    + "four (a) => (b) { t = local.twice (a) b = local.twice (t) }"
    + FUNCTION
    + "twice (a) => (b) { b = Add (a, a) }",
    "a_local_function_used_twice": "g (float[N,3] x) => (float[N,3] y) { t = local.twice (x) b = Neg (t) u = local.twice (b) y = Add (t, u) }"
    + FUNCTION
    + "twice (a) => (b) { b = Add (a, a) }",
}


def tests():
    """All of them, in the form of the package's own tests."""
    found = [made(name, HEAD.format(version=case["version"]) + case["text"], case) for name, case in CASES.items()]
    given = {"given": {"x": normal(2, 3)}, "weights": {}}
    return found + [made(name, LOCAL + text, given) for name, text in FUNCTIONS.items()]


def made(name, text, case):
    random = np.random.default_rng(abs(hash_of(name)))
    model = onnx.parser.parse_model(text)
    for weight, shape in case["weights"].items():
        values = (random.standard_normal(shape) * 0.5).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, weight))
    given = [value(random, case["given"][info.name]) for info in model.graph.input]
    names = [info.name for info in model.graph.input]
    wanted = expected(model, dict(zip(names, given)))
    fields = {"name": f"named_{name}", "model_name": name, "model": model, "data_sets": [(given, wanted)], "kind": "node"}
    return TestCase(**fields, url=None, model_dir=None, rtol=1e-3, atol=1e-5)


def hash_of(name):
    """The same number in every run."""
    return int.from_bytes(name.encode()[-6:], "big")


def value(random, described):
    if isinstance(described, np.ndarray):
        return described
    kind, shape = described
    values = random.standard_normal(shape)
    if kind == "large":
        values *= 1000
    return values.astype({"half": np.float16, "double": np.float64}.get(kind, np.float32))


def expected(model, given):
    import onnxruntime
    from onnx.reference import ReferenceEvaluator

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    content = model.SerializeToString()
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"]).run(None, given)
    except Exception:  # noqa: BLE001 - it does not have the operator
        return ReferenceEvaluator(model).run(None, given)
