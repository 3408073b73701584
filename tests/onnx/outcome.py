"""The result of a case: its outcome, a reason that is the same in every run, and details that help to find the fault."""

import pathlib
import re
import tempfile
from typing import NamedTuple

import numpy as np
import onnx

import cases
from server import Gone, Refused, Server


class Outcome(NamedTuple):
    # right, refused, failed, wrong, exempt (by the list) or type (exempt by its type).
    name: str
    # Without names and numbers of the single test, so that cases group.
    reason: str = ""
    detail: str = ""
    operator: str = ""


def outcomes(onnxd, tests, keys):
    """The outcome of each key that has a case. One server is started for all; more where one ends."""
    made, found = [], {}
    for key in keys:
        try:
            case = cases.make(key, tests[key.partition("/")[0]])
        except cases.Exempt as exempt:
            found[key] = Outcome("exempt" if exempt.kind == "list" else "type", str(exempt))
            continue
        if case is not None:
            made.append(case)
    serve(onnxd, made, found)
    return found


def serve(onnxd, made, found):
    """Runs these cases on one server. Where it ends while it loads, each half gets its own, until one is left."""
    if not made:
        return
    with tempfile.TemporaryDirectory() as folder:
        for at, case in enumerate(made):
            home = pathlib.Path(folder, f"m{at}")
            home.mkdir()
            onnx.save(case.model, home / "model.onnx")
        server = Server(onnxd, folder)
        try:
            server.wait_until_ready()
            rest = ask_all(server, made, found)
        except Gone as gone:
            rest = made
            if len(made) == 1:
                found[made[0].key] = failed(made[0], f"while it loads: {gone}")
                rest = []
        finally:
            server.stop()
    if len(rest) == len(made):
        half = len(rest) // 2
        serve(onnxd, rest[:half], found)
        serve(onnxd, rest[half:], found)
    else:
        serve(onnxd, rest, found)


def ask_all(server, made, found):
    """Sends every case its inputs. Returns the cases behind one that ended the server."""
    for at, case in enumerate(made):
        model = f"m{at}"
        if model in server.refused:
            said = server.refused[model]
            found[case.key] = Outcome("refused", general(said), said, case.operator)
            continue
        try:
            found[case.key] = judged(server, model, case)
        except Refused as refused:
            found[case.key] = failed(case, str(refused))
        except TimeoutError:
            found[case.key] = failed(case, "no answer in time")
        except Gone as gone:
            found[case.key] = failed(case, str(gone))
            return made[at + 1 :]
    return []


def failed(case, said):
    return Outcome("failed", general(said), said, case.operator)


def judged(server, model, case):
    for given, wanted in case.runs:
        came = server.ask(model, given)
        for name, datatype, array in wanted:
            if difference := differs(came.get(name), datatype, np.asarray(array), case):
                return Outcome("wrong", difference[0], f"output {name}: {difference[1]}", case.operator)
    return Outcome("right", operator=case.operator)


FLOATS = ("FP16", "FP32", "FP64")


def differs(came, datatype, wanted, case):
    """None, or which sort of difference, and what it is in this case. Compares as the package's own runner does."""
    if came is None:
        return "an output is missing", "missing"
    if came[0] != datatype:
        return "another datatype", f"{came[0]}, expected {datatype}"
    if came[1].shape != wanted.shape:
        return "another shape", f"{list(came[1].shape)}, expected {list(wanted.shape)}"
    if datatype == "BYTES":
        texts = np.array([text.decode() if isinstance(text, bytes) else str(text) for text in wanted.ravel()], dtype=object)
        same = came[1].ravel() == texts
    else:
        with np.errstate(all="ignore"):
            # The package's tolerance, and at least four units of the datatype at 1: the expected values have rounding errors
            # of this size too (1.9e-7 where the exact value is 0).
            unit = 4 * float(np.finfo(wanted.dtype).eps) if datatype in FLOATS else 0
            same = np.isclose(came[1], wanted, max(case.rtol, unit), max(case.atol, unit), equal_nan=True)
    if np.all(same):
        return None
    sort = "other values, by rounding" if rounding(came[1], wanted, datatype) else "other values"
    at = np.unravel_index(np.argmin(np.reshape(same, wanted.shape)), wanted.shape)
    first = f"the first at {[int(index) for index in at]}: {came[1][at]!r}, expected {wanted[at]!r}"
    return sort, f"{np.size(same) - np.count_nonzero(same)} of {np.size(same)} differ, {first}"


def rounding(came, wanted, datatype):
    """Whether values differ by no more than what another order of operations makes of values around one."""
    if datatype not in FLOATS:
        return False
    unit = float(np.finfo(wanted.dtype).eps)
    close = np.isclose(came.astype(np.float64), wanted.astype(np.float64), max(1e-3, 4 * unit), max(1e-5, 4 * unit), True)
    return bool(np.all(close))


def general(said):
    """A message without what is of the single test: the advice at its end, names of nodes and values, numbers, places."""
    said = said.splitlines()[0] if said else said
    said = re.sub(r" \((export the model|cut the graph|the engine takes no text|the operator or shape|expected an ONNX file)[^()]*\)$", "", said)
    said = re.sub(r" \(node `[^`]*`\)", "", said)
    said = re.sub(r"\w+_expanded_function_", "", said)
    said = re.sub(r'#?\d* ?"[^"]*"', "…", said)
    said = re.sub(r" /\S+|\bm\d+\b", " …", said)
    # Numbers, but not those that are part of a name, as in F32 and Col2Im.
    said = re.sub(r"(?<!\w)[-+]?\d+(\.\d+)?([eE][-+]?\d+)?", "#", said)
    said = re.sub(r"Sym\d+", "Sym#", said)
    said = re.sub(r"#(, ?#)+", "#,…", said)
    return re.sub(r"\s+", " ", said).strip()
