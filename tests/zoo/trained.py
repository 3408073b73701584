"""Trains models with scikit-learn, XGBoost and LightGBM, and makes a zoo of them.

    pip install -r tests/zoo/sklearn-requirements.txt
    python tests/zoo/trained.py OUT_DIR

For each model it writes the same files as fetch.py: OUT_DIR/<name>/ with model.onnx, model.json, tolerance.txt
and cases/. The models are unchanged from their exporters, including ZipMap. The data sets are those of
scikit-learn. One model is the default digits model, quantized to 8 bits (QDQ).
"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx.helper
from onnxruntime import quantization
from sklearn import datasets, ensemble, impute, linear_model, naive_bayes, neighbors, neural_network
from sklearn import compose, decomposition, preprocessing, svm, tree
from sklearn.base import is_classifier
from sklearn.pipeline import make_pipeline

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent / "models"))
import oracle  # noqa: E402


def plain_attribute(key, value, *rest, made=onnx.helper.make_attribute):
    """skl2onnx gives numpy's integers and booleans, which newer protobufs refuse."""
    if isinstance(value, (list, np.ndarray)):
        value = [int(v) if isinstance(v, (bool, np.bool_, np.integer)) else v for v in value]
    return made(key, value, *rest)


onnx.helper.make_attribute = plain_attribute


def zoo():
    """name -> model, data set, tolerance."""
    wine = datasets.load_wine(return_X_y=True)
    words = (wine[0], np.array(["barolo", "grignolino", "barbera"])[wine[1]])
    cancer = datasets.load_breast_cancer(return_X_y=True)
    sugar = datasets.load_diabetes(return_X_y=True)
    scaled = lambda model: make_pipeline(preprocessing.StandardScaler(), model)
    logistic = lambda: linear_model.LogisticRegression(max_iter=900)
    mlp = lambda: neural_network.MLPClassifier((16,), max_iter=300, random_state=0)
    # Scores from 0 to 1; diabetes' values go up to 350.
    score, value = 2e-6, 1e-3
    models = {
        "mlp-3": (scaled(mlp()), wine, score),
        "mlp-2": (scaled(mlp()), cancer, score),
        "logistic-3": (scaled(logistic()), wine, score),
        "logistic-2": (make_pipeline(preprocessing.RobustScaler(), logistic()), cancer, score),
        "logistic-words": (make_pipeline(preprocessing.MinMaxScaler(), logistic()), words, score),
        "imputed": (make_pipeline(impute.SimpleImputer(), preprocessing.Normalizer(), logistic()), wine, score),
        "pca": (make_pipeline(decomposition.PCA(4), logistic()), wine, 1e-5),
        "linear": (linear_model.LinearRegression(), sugar, value),
        "tree": (tree.DecisionTreeClassifier(random_state=0), wine, 0),
        "forest-3": (ensemble.RandomForestClassifier(30, random_state=0), wine, 0),
        "forest-2": (ensemble.RandomForestClassifier(30, random_state=0), cancer, 0),
        "forest-words": (ensemble.RandomForestClassifier(10, random_state=0), words, 0),
        "forest-value": (ensemble.RandomForestRegressor(20, random_state=0), sugar, 0),
        "extra-value": (ensemble.ExtraTreesRegressor(20, random_state=0), sugar, 0),
        "boosting-3": (ensemble.GradientBoostingClassifier(n_estimators=30, random_state=0), wine, score),
        "boosting-2": (ensemble.GradientBoostingClassifier(n_estimators=30, random_state=0), cancer, score),
        "boosting-value": (ensemble.GradientBoostingRegressor(n_estimators=30, random_state=0), sugar, 0),
        "histogram-3": (ensemble.HistGradientBoostingClassifier(max_iter=20), wine, score),
        "histogram-2": (ensemble.HistGradientBoostingClassifier(max_iter=20), cancer, score),
        "histogram-value": (ensemble.HistGradientBoostingRegressor(max_iter=20), sugar, 0),
        "isolation": (ensemble.IsolationForest(n_estimators=20, random_state=0), wine, score),
        "bayes": (naive_bayes.GaussianNB(), wine, 1e-4),
        "bernoulli": (make_pipeline(preprocessing.Binarizer(threshold=2.0), naive_bayes.BernoulliNB()), wine, score),
        "neighbours": (scaled(neighbors.KNeighborsClassifier()), wine, score),
    }
    for name, (model, (x, y), tolerance) in models.items():
        x = x.astype(np.float32)
        yield name, lambda: exported(model, x, y), x, tolerance
    for name, (x, y) in [("3", wine), ("2", cancer), ("value", sugar)]:
        x = x.astype(np.float32)
        yield f"xgboost-{name}", lambda: of_xgboost(x, y, name == "value"), x, score if name != "value" else value
        yield f"lightgbm-{name}", lambda: of_lightgbm(x, y, name == "value"), x, score if name != "value" else value


    yield from machines(wine, words, cancer, sugar, scaled)
    yield from categories(wine, sugar)


def machines(wine, words, cancer, sugar, scaled):
    """Support vector machines: each kernel, two and three classes, scores and probabilities, both precisions."""
    # A score is a sum in which kernels of some hundreds cancel, in single precision; diabetes' values go up to 350, from
    # kernels of some thousands. The probabilities of three classes come from an iteration that stops at an error of
    # 0.0017, and the answers agree because they stop at the same step.
    score, value = 3e-5, 5e-3
    models = {}
    for kernel in ["linear", "poly", "rbf", "sigmoid"]:
        models[f"svc-{kernel}-3"] = (svm.SVC(kernel=kernel), wine)
        models[f"svc-{kernel}-2"] = (svm.SVC(kernel=kernel), cancer)
        models[f"svc-{kernel}-odds-3"] = (svm.SVC(kernel=kernel, probability=True, random_state=0), wine)
        models[f"svc-{kernel}-odds-2"] = (svm.SVC(kernel=kernel, probability=True, random_state=0), cancer)
    models["svc-pairs"] = (svm.SVC(decision_function_shape="ovo"), wine)
    models["svc-words"] = (svm.SVC(), words)
    models["svc-odds-words"] = (svm.SVC(probability=True, random_state=0), words)
    models["nusvc-3"] = (svm.NuSVC(nu=0.3), wine)
    models["nusvc-odds-2"] = (svm.NuSVC(nu=0.1, probability=True, random_state=0), cancer)
    models["svr"] = (svm.SVR(C=100), sugar)
    models["svr-poly"] = (svm.SVR(kernel="poly", C=100), sugar)
    models["nusvr"] = (svm.NuSVR(C=100), sugar)
    models["one-class"] = (svm.OneClassSVM(nu=0.3), wine)
    for name, (model, (x, y)) in models.items():
        tolerance = value if y is sugar[1] else score
        # onnxruntime has no SVMRegressor for doubles.
        kinds = {"": np.float32, "-double": np.float64} if is_classifier(model) else {"": np.float32}
        for precision, kind in kinds.items():
            x = x.astype(kind)
            yield name + precision, lambda: exported(scaled(model), x, y), x, tolerance


def categories(wine, sugar):
    """Columns of numbers and of categories, which become one column each."""
    x, y = wine
    numbers, kinds = x[:, :6].astype(np.float32), np.rint(x[:, 6:9] * 2).astype(np.int64)
    unknown = kinds.copy()
    unknown[::5, 1] = 99
    one_hot = lambda **more: preprocessing.OneHotEncoder(sparse_output=False, **more)
    mixed = compose.ColumnTransformer(
        [("numbers", preprocessing.StandardScaler(), list(range(6))), ("kinds", one_hot(handle_unknown="ignore"), [6, 7, 8])]
    )
    logistic = linear_model.LogisticRegression(max_iter=900)
    model = make_pipeline(mixed, logistic).fit(np.hstack([numbers, kinds]), y)
    yield "columns", lambda: of_columns(model, numbers, kinds), {"numbers": numbers, "kinds": unknown}, 2e-6
    yield "one-hot", lambda: exported(one_hot(), kinds, y), kinds, 0
    yield "one-hot-ignore", lambda: exported(one_hot(handle_unknown="ignore"), kinds, y), unknown, 0
    yield "one-hot-floats", lambda: exported(one_hot(), kinds.astype(np.float32), y), kinds.astype(np.float32), 0


def of_columns(model, numbers, kinds):
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType

    inputs = [
        ("numbers", FloatTensorType([None, numbers.shape[1]])),
        ("kinds", Int64TensorType([None, kinds.shape[1]])),
    ]
    return to_onnx(model, initial_types=inputs, target_opset={"": 17, "ai.onnx.ml": 3})


def exported(model, x, y):
    from skl2onnx import to_onnx

    # A ZipMap of doubles is not in the standard.
    options = {id(model): {"zipmap": False}} if x.dtype == np.float64 and is_classifier(model) else None
    return to_onnx(model.fit(x, y), x[:1], target_opset={"": 17, "ai.onnx.ml": 3}, options=options)


def of_xgboost(x, y, is_value):
    import xgboost
    from onnxmltools.convert import convert_xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType

    kind = xgboost.XGBRegressor if is_value else xgboost.XGBClassifier
    model = kind(n_estimators=20, max_depth=4).fit(x, y)
    return convert_xgboost(model, initial_types=[("X", FloatTensorType([None, x.shape[1]]))], target_opset=15)


def of_lightgbm(x, y, is_value):
    import lightgbm
    from onnxmltools.convert import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    kind = lightgbm.LGBMRegressor if is_value else lightgbm.LGBMClassifier
    # One feature is a category, whose splits are BRANCH_EQ.
    x = x.copy()
    x[:, 1] = np.rint(x[:, 1]) % 5
    model = kind(n_estimators=20, verbose=-1).fit(x, y, categorical_feature=[1])
    return convert_lightgbm(
        model, initial_types=[("X", FloatTensorType([None, x.shape[1]]))], target_opset=15, zipmap=True
    )


class Calibration(quantization.CalibrationDataReader):
    def __init__(self, images):
        self.images = iter(images)

    def get_next(self):
        image = next(self.images, None)
        return None if image is None else {"image": image[None]}


def make_quantized(out):
    """The default model in 8 bits. Expected is onnxruntime as it is written, without its optimizations: with
    them its answers are other ones on some processors."""
    folder = oracle.fresh(out / "digits-int8")
    images = np.fromfile(ROOT / "tests" / "data" / "digits-heldout.bin", dtype=np.uint8).reshape(-1, 785)[:, 1:]
    images = (images.astype(np.float32) / np.float32(255)).reshape(-1, 1, 28, 28)
    quantization.quantize_static(
        ROOT / "model" / "digits" / "model.onnx",
        folder / "model.onnx",
        Calibration(images[:100]),
        quant_format=quantization.QuantFormat.QDQ,
        activation_type=quantization.QuantType.QInt8,
        weight_type=quantization.QuantType.QInt8,
    )
    write(folder, {"digit": {"image": images[100:101]}, "digits": {"image": images[101:117]}}, 1e-4)


def write(folder, given, tolerance, sess=None):
    """`given`: the inputs by name, of each case. `sess`: what answers them, if not onnxruntime with the file itself."""
    (folder / "model.json").write_text(json.dumps({"name": folder.name, "version": "1", "file": "model.onnx"}) + "\n")
    (folder / "tolerance.txt").write_text(f"{tolerance:g}\n")
    sess = sess or oracle.session(folder / "model.onnx")
    for case, inputs in given.items():
        outputs = {}
        for output, got in zip(sess.get_outputs(), sess.run(None, inputs)):
            if isinstance(got, list):
                # A ZipMap's dictionaries, in the order of their keys: of scikit-learn's classes too. The server gives
                # the tensor of their values.
                got = np.array([list(row.values()) for row in got], dtype=np.float32)
            outputs[output.name] = got
        oracle.write_case(folder / "cases", case, inputs, outputs)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    warnings.filterwarnings("ignore")
    out = Path(sys.argv[1])
    for name, make, x, tolerance in zoo():
        model = make()
        folder = oracle.fresh(out / name)
        (folder / "model.onnx").write_bytes(model.SerializeToString())
        if not isinstance(x, dict):
            x = {model.graph.input[0].name: x}
        order = np.random.default_rng(1).permutation(len(next(iter(x.values()))))[:40]
        rows = {name: column[order] for name, column in x.items()}
        if name.startswith(("histogram", "xgboost", "lightgbm")):
            # These know what to do without a value.
            for column in rows.values():
                column[np.random.default_rng(2).random(column.shape) < 0.05] = np.nan
        parts = {"one": slice(1), "nine": slice(1, 10), "thirty": slice(10, None)}
        given = {case: {name: column[part] for name, column in rows.items()} for case, part in parts.items()}
        write(folder, given, tolerance)
        operators = sorted({node.op_type for node in model.graph.node})
        print(f"{name}: {(folder / 'model.onnx').stat().st_size} bytes, {', '.join(operators)}")
    make_quantized(out)


if __name__ == "__main__":
    main()
