"""curl against a running onnxd.

    python curl_client.py 127.0.0.1:PORT FOLDER

FOLDER is the one that digits.py wrote.
"""

import json
import subprocess
import sys
from pathlib import Path

from digits import best, check, equal, oip, run_checks

HTTP = f"http://{sys.argv[1]}"
FOLDER = Path(sys.argv[2])
INFER = HTTP + "/v2/models/digits/infer"
[BIG] = FOLDER.glob("big-*.png")
BIG_LABEL = int(BIG.stem.removeprefix("big-"))
SMALL = FOLDER / f"{BIG_LABEL}.png"
PNG = ("-H", "Content-Type: image/png")
CONTINUE = "< HTTP/1.1 100 Continue"


def curl(*arguments, input=None):
    """Runs curl and returns what it wrote to stdout and to stderr."""
    command = ["curl", "--disable", "--silent", "--show-error", "--max-time", "30", *arguments]
    done = subprocess.run(command, input=input, capture_output=True)
    errors = done.stderr.decode(errors="replace")
    equal(done.returncode, 0, f"the exit code of curl ({errors[-200:]})")
    return done.stdout.decode(), errors


def fetch(*arguments, input=None):
    """Runs curl for one URL; the status, the body in JSON, and what curl told of the exchange."""
    out, told = curl("-v", "-w", "\n%{http_code}", *arguments, input=input)
    body, status = out.rsplit("\n", 1)
    return int(status), json.loads(body), told


def check_digit(answer):
    """Checks the status and the digit of an answer."""
    equal(answer[0], 200, f"the status ({answer[1]})")
    equal(best(answer[1]), [BIG_LABEL], "the digit")


@check("curl: GET /health")
def health():
    equal(fetch(HTTP + "/health")[:2], (200, {"health": "true"}), "the answer")


@check("curl: GET /v2 and /v2/models/digits")
def metadata():
    status, body, _ = fetch(HTTP + "/v2")
    equal((status, body["name"]), (200, "onnxd"), "the server")
    assert "binary_tensor_data" in body["extensions"], f"the extensions are {body['extensions']}"
    status, body, _ = fetch(HTTP + "/v2/models/digits")
    equal((status, body["name"], body["versions"]), (200, "digits", ["1"]), "the model")
    [given], [taken] = body["inputs"], body["outputs"]
    equal((given["name"], given["datatype"], given["shape"]), ("image", "FP32", [-1, 1, 28, 28]), "the input")
    equal(given["parameters"]["accepts"], ["image/jpeg", "image/png"], "what the input accepts")
    equal((taken["name"], taken["datatype"], taken["shape"]), ("logits", "FP32", [-1, 10]), "the output")


@check("curl: POST of base64 in JSON, whatever the content type")
def post_json():
    body = json.dumps(oip([SMALL.read_bytes()], id="curl")).encode()
    answer = fetch("-H", "Content-Type: application/json", "--data-binary", "@-", INFER, input=body)
    check_digit(answer)
    equal(answer[1].get("id"), "curl", "the id")
    check_digit(fetch("-d", "@-", INFER, input=body))


@check("curl: POST of a PNG file")
def post_png():
    check_digit(fetch(*PNG, "--data-binary", f"@{SMALL}", INFER))


@check("curl: HEAD has the head of GET and no body")
def head():
    for path in ("/health", "/v2", "/v2/models/digits"):
        size = len(curl(HTTP + path)[0].encode())
        out = curl("--head", HTTP + path)[0].lower().splitlines()
        equal(out[0], "http/1.1 200 ok", f"the status line of {path}")
        assert f"content-length: {size}" in out, f"content-length: {size} is not in {out}"
        equal(out[-1], "", f"the end of the answer to {path}")


@check("curl: 404 and 405 say why in JSON")
def refusals():
    for status, *arguments in (
        (404, HTTP + "/nothing"),
        (404, HTTP + "/v2/models/nothing"),
        (404, "-d", "{}", HTTP + "/v2/models/nothing/infer"),
        (405, "-X", "DELETE", HTTP + "/v2/models/digits"),
        (405, "-d", "{}", HTTP + "/health"),
        (405, INFER),
    ):
        got, body, told = fetch(*arguments)
        equal(got, status, f"the status of {arguments}")
        assert isinstance(body.get("error"), str) and body["error"], f"{arguments}: no error in {body}"
        if status == 405:
            assert "\n< allow: " in told.lower(), f"{arguments}: no Allow header"


@check("curl: Expect: 100-continue, asked for and by itself before a large body")
def expect():
    answer = fetch(*PNG, "-H", "Expect: 100-continue", "--data-binary", f"@{SMALL}", INFER)
    check_digit(answer)
    assert CONTINUE in answer[2], "no 100 for a small body"
    assert BIG.stat().st_size > 1 << 20, f"the large body has only {BIG.stat().st_size} bytes"
    answer = fetch(*PNG, "--data-binary", f"@{BIG}", INFER)
    check_digit(answer)
    assert "> Expect: 100-continue" in answer[2], "curl asked for no 100"
    assert CONTINUE in answer[2], "no 100 for a large body"


@check("curl: a chunked upload")
def chunked():
    for file in (SMALL, BIG):
        answer = fetch(*PNG, "-H", "Transfer-Encoding: chunked", "--data-binary", f"@{file}", INFER)
        check_digit(answer)
        assert "> Transfer-Encoding: chunked" in answer[2], "curl sent no chunks"


@check("curl: the connection is kept for the next request")
def keep_alive():
    used = ("-w", "%{http_code} %{num_connects}\n", "-o", "/dev/null")
    post = (*PNG, "--data-binary", f"@{SMALL}", INFER)
    out, _ = curl(
        *used, HTTP + "/health", "--next", *used, HTTP + "/v2", "--next", *used, *post,
        "--next", *used, HTTP + "/nothing", "--next", *used, "-H", "Transfer-Encoding: chunked", *post,
        "--next", *used, HTTP + "/health",
    )
    equal(out.split("\n")[:-1], ["200 1", "200 0", "200 0", "404 0", "200 0", "200 0"], "status and new connections")


run_checks()
