"""Trains text classifiers and models of categories with scikit-learn, and adds them to a zoo.

    pip install -r tests/zoo/sklearn-requirements.txt
    python tests/zoo/text.py OUT_DIR

For each model it writes the same files as fetch.py: OUT_DIR/<name>/ with model.onnx, model.json, tolerance.txt
and cases/. The models are unchanged from their exporter. The texts are the first lines of the documentation of
Python's, NumPy's and scikit-learn's functions; the classes are these three.
"""

import builtins
import collections
import inspect
import json
import string
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
from sklearn import compose, ensemble, feature_extraction, linear_model, naive_bayes, preprocessing
from sklearn.pipeline import make_pipeline

import trained
from trained import oracle

# Probabilities, from sums of hundreds of products in single precision.
SCORE = 1e-5
# Bayes' rule takes the difference of sums near 500, whose last bit is 3e-5.
BAYES = 1e-4


def documentation():
    """Texts and their classes."""
    import sklearn.cluster
    import sklearn.linear_model
    import sklearn.metrics

    modules = {
        "python": [builtins, string, collections, inspect, json],
        "numpy": [np, np.linalg, np.random],
        "sklearn": [sklearn.metrics, sklearn.linear_model, sklearn.cluster],
    }
    texts = {}
    for label, members in modules.items():
        for module in members:
            for name in sorted(dir(module)):
                text = inspect.getdoc(getattr(module, name, None)) or ""
                text = " ".join(text.split())[:300]
                if len(text) > 40 and not name.startswith("_"):
                    texts.setdefault(text, label)
    return np.array(list(texts), dtype=object), np.array(list(texts.values()))


def classifiers():
    """name -> vectorizer, classifier."""
    text = feature_extraction.text
    logistic = lambda: linear_model.LogisticRegression(max_iter=300)
    return {
        "text-counts": (text.CountVectorizer(), logistic()),
        "text-binary": (text.CountVectorizer(binary=True, token_pattern="[a-z]+"), naive_bayes.BernoulliNB()),
        "text-pairs": (text.TfidfVectorizer(ngram_range=(1, 2), min_df=3), logistic()),
        "text-stop-words": (text.TfidfVectorizer(stop_words="english"), naive_bayes.MultinomialNB()),
        "text-sublinear": (text.TfidfVectorizer(sublinear_tf=True, norm="l1", lowercase=False), logistic()),
        "text-characters": (text.TfidfVectorizer(analyzer="char", ngram_range=(2, 3), max_features=800), logistic()),
        "text-forest": (text.CountVectorizer(min_df=5), ensemble.RandomForestClassifier(10, random_state=0)),
    }


def columns():
    """A table with two columns of words and one of numbers, and its model."""
    rng = np.random.default_rng(5)
    colours, towns = np.array(["red", "green", "blue"]), np.array(["Köln", "東京", "Paris", "Lima"])
    table = {
        "colour": rng.choice(colours, 200).astype(object)[:, None],
        "town": rng.choice(towns, 200).astype(object)[:, None],
        "size": rng.normal(size=(200, 2)).astype(np.float32),
    }
    y = (table["size"][:, 0] + (table["colour"][:, 0] == "red") - (table["town"][:, 0] == "Lima") > 0.2).astype(int)
    return table, y


def of_columns(table, y):
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    rows = np.hstack([table["colour"], table["town"], table["size"].astype(object)])
    model = make_pipeline(
        compose.ColumnTransformer(
            [
                ("known", preprocessing.OneHotEncoder(), [0]),
                ("unknown", preprocessing.OneHotEncoder(handle_unknown="ignore"), [1]),
                ("numbers", preprocessing.StandardScaler(), [2, 3]),
            ]
        ),
        linear_model.LogisticRegression(),
    ).fit(rows, y)
    one = [None, 1]
    types = [("colour", StringTensorType(one)), ("town", StringTensorType(one))]
    types += [("width", FloatTensorType(one)), ("height", FloatTensorType(one))]
    given = {"colour": table["colour"], "town": table["town"].copy()}
    given["width"], given["height"] = table["size"][:, :1], table["size"][:, 1:]
    given["town"][3] = "Atlantis"
    return to_onnx(model, initial_types=types, target_opset={"": 17, "ai.onnx.ml": 3}), given


def of_texts(vectorizer, classifier, texts, labels):
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import StringTensorType

    model = make_pipeline(vectorizer, classifier).fit(texts, labels)
    return to_onnx(model, initial_types=[("text", StringTensorType([None, 1]))], target_opset={"": 17, "ai.onnx.ml": 3})


def session(folder, model):
    """onnxruntime's. It needs the locale of the model installed, and en_US is not everywhere."""
    for node in model.graph.node:
        if node.op_type == "StringNormalizer":
            node.attribute.append(onnx.helper.make_attribute("locale", "C.UTF-8"))
    path = folder / "elsewhere.onnx"
    path.write_bytes(model.SerializeToString())
    sess = oracle.session(path)
    path.unlink()
    return sess


def write(out, name, model, given, tolerance=SCORE):
    folder = oracle.fresh(out / name)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    cases = {"one": slice(0, 1), "nine": slice(1, 10), "thirty": slice(10, 40)}
    rows = lambda part: {key: value[part] for key, value in given.items()}
    trained.write(folder, {case: rows(part) for case, part in cases.items()}, tolerance, session(folder, model))
    operators = sorted({node.op_type for node in model.graph.node})
    print(f"{name}: {(folder / 'model.onnx').stat().st_size} bytes, {', '.join(operators)}")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    warnings.filterwarnings("ignore")
    out = Path(sys.argv[1])
    texts, labels = documentation()
    order = np.random.default_rng(1).permutation(len(texts))
    texts, labels = texts[order], labels[order]
    given = texts[:40, None].copy()
    # Nothing that the model knows, and nothing at all.
    given[4], given[5] = "Привет, мир! ¿Qué tal?", ""
    for name, (vectorizer, classifier) in classifiers().items():
        write(out, name, of_texts(vectorizer, classifier, texts, labels), {"text": given}, BAYES if name == "text-binary" else SCORE)
    write(out, "columns", *of_columns(*columns()))


if __name__ == "__main__":
    main()
