"""The model of --model: the server is asked for its inputs, and its requests have zeros."""

import http.client
import json

ASKED = {}


def learn(port):
    """Makes `ASKED`, a request that the model `extra` should take. Attackers start after that and inherit it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/v2/models/extra")
    answer = connection.getresponse()
    said = json.loads(answer.read())
    if answer.status != 200:
        raise SystemExit(f"the server does not serve the extra model: {said}")
    inputs = []
    for one in said["inputs"]:
        shape = [1 if length < 0 else length for length in one["shape"]]
        count = 1
        for length in shape:
            count *= length
        zero = {"BOOL": False, "BYTES": ""}.get(one["datatype"], 0)
        inputs.append({"name": one["name"], "shape": shape, "datatype": one["datatype"], "data": [zero] * count})
    ASKED.update(inputs=inputs)
