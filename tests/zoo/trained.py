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
from sklearn import decomposition, preprocessing, tree
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


def exported(model, x, y):
    from skl2onnx import to_onnx

    return to_onnx(model.fit(x, y), x[:1], target_opset={"": 17, "ai.onnx.ml": 3})


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
    write(folder, {"digit": images[100:101], "digits": images[101:117]}, "image", 1e-4)


def write(folder, given, name, tolerance):
    (folder / "model.json").write_text(json.dumps({"name": folder.name, "version": "1", "file": "model.onnx"}) + "\n")
    (folder / "tolerance.txt").write_text(f"{tolerance:g}\n")
    sess = oracle.session(folder / "model.onnx")
    for case, x in given.items():
        outputs = {}
        for output, got in zip(sess.get_outputs(), sess.run(None, {name: x})):
            if isinstance(got, list):
                # A ZipMap's dictionaries, in the order of their keys: of scikit-learn's classes too. The server gives
                # the tensor of their values.
                got = np.array([list(row.values()) for row in got], dtype=np.float32)
            outputs[output.name] = got
        oracle.write_case(folder / "cases", case, {name: x}, outputs)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    warnings.filterwarnings("ignore")
    out = Path(sys.argv[1])
    for name, make, x, tolerance in zoo():
        model = make()
        folder = oracle.fresh(out / name)
        (folder / "model.onnx").write_bytes(model.SerializeToString())
        rows = x[np.random.default_rng(1).permutation(len(x))[:40]]
        if name.startswith(("histogram", "xgboost", "lightgbm")):
            # These know what to do without a value.
            rows[np.random.default_rng(2).random(rows.shape) < 0.05] = np.nan
        given = {"one": rows[:1], "nine": rows[1:10], "thirty": rows[10:]}
        write(folder, given, model.graph.input[0].name, tolerance)
        operators = sorted({node.op_type for node in model.graph.node})
        print(f"{name}: {(folder / 'model.onnx').stat().st_size} bytes, {', '.join(operators)}")
    make_quantized(out)


if __name__ == "__main__":
    main()
