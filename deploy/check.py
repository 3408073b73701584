"""Checks deployment files against the schemas of the tools that read them. Exits 1 and says what is wrong.

    check.py kubernetes FILE
    check.py kserve FILE
    check.py compose FILE
    check.py flags ONNXD FILE...
"""

import re
import subprocess
import sys
from pathlib import Path

import yaml


def kubernetes(path):
    """Validates each manifest, and checks that the Service and the disruption budget select the Deployment's pods."""
    import kubernetes_validate

    documents = list(yaml.safe_load_all(Path(path).read_text()))
    for document in documents:
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    kinds = [document["kind"] for document in documents]
    assert kinds == ["Deployment", "Service", "PodDisruptionBudget", "HorizontalPodAutoscaler"], kinds
    labels = documents[0]["spec"]["template"]["metadata"]["labels"]
    for document in documents[:3]:
        selector = document["spec"]["selector"]
        assert selector.get("matchLabels", selector) == labels, f"{document['kind']} selects other pods"


def kserve(path):
    """Checks the fields of the custom resource by name and type, because there is no schema for it here. Its
    containers are validated as those of a pod."""
    import kubernetes_validate

    runtime, service = yaml.safe_load_all(Path(path).read_text())
    spec = runtime["spec"]
    assert (runtime["apiVersion"], runtime["kind"]) == ("serving.kserve.io/v1alpha1", "ServingRuntime")
    own = {"supportedModelFormats": list, "protocolVersions": list, "multiModel": bool, "containers": list}
    for name, value in spec.items():
        assert isinstance(value, own[name]), name
    formats = {"name": str, "version": str, "autoSelect": bool, "priority": int}
    for entry in spec["supportedModelFormats"]:
        for name, value in entry.items():
            assert isinstance(value, formats[name]), name
    assert any(container["name"] == "kserve-container" for container in spec["containers"])
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": runtime["metadata"]["name"]},
        "spec": {"containers": spec["containers"]},
    }
    kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)
    assert (service["apiVersion"], service["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    assert service["spec"]["predictor"]["model"]["runtime"] == runtime["metadata"]["name"]


def compose(path):
    """Validates the file against the compose specification."""
    from compose_spec import PyCompose

    PyCompose.from_yaml(Path(path).read_text()).validate()


def flags(onnxd, *paths):
    """Checks that `onnxd serve --help` has every flag and ONNXD_ variable that the files use."""
    known = subprocess.run([onnxd, "serve", "--help"], capture_output=True, text=True, check=True).stdout
    for path in paths:
        text = Path(path).read_text()
        # Comments are removed, because they may name flags of other programs.
        used = set(re.findall(r"(--[a-z][a-z-]+|ONNXD_[A-Z_]+)", re.sub(r"#.*", "", text)))
        for name in used:
            assert re.search(rf"{name}\b", known), f"{path}: onnxd serve has no {name}"


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
