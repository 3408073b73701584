"""What each decoder of results makes of known outputs, computed with numpy alone.

    pip install -r tests/results/requirements.txt
    python tests/results/reference.py

It writes cases.json beside this file: for each case the `result` of model.json, the
outputs of the model, and the expected answers. The unit tests in
src/processing/results/tests.rs compare the program's answers with them. The code here
follows the papers and the libraries of the models, step by step and without any
optimisation, and shares nothing with the program. The file is checked in; run this
only to change it.
"""

import json
from pathlib import Path

import numpy as np

F = np.float32
rng = np.random.default_rng(20)
cases = []


def sigmoid(x):
    return F(1) / (F(1) + np.exp(-x.astype(F)))


def clusters(count, width, height):
    """Boxes (cx, cy, w, h) in groups that overlap."""
    centers = rng.uniform(0.2, 0.8, (4, 2)) * [width, height]
    which = rng.integers(0, 4, count)
    center = centers[which] + rng.normal(0, width / 60, (count, 2))
    size = np.array([width / 5, height / 4]) * rng.uniform(0.8, 1.2, (count, 2))
    return np.round(np.concatenate([center, size], 1), 2).astype(F)


def numbers(*shape):
    return np.round(rng.uniform(0, 1, shape), 3).astype(F)


def corners_of(boxes):
    cx, cy, w, h = boxes.T
    return np.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], 1)


def iou(a, b):
    width = np.minimum(a[2], b[2]) - np.maximum(a[0], b[0])
    height = np.minimum(a[3], b[3]) - np.maximum(a[1], b[1])
    both = max(width, F(0)) * max(height, F(0))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return both / union if union > 0 else F(0)


def probiou(a, b):
    """For (cx, cy, w, h, angle), as in Ultralytics' metrics.py."""

    def covariance(box):
        w, h, angle = float(box[2]) ** 2 / 12, float(box[3]) ** 2 / 12, float(box[4])
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        return turn @ np.diag([w, h]) @ turn.T

    one, two = covariance(a), covariance(b)
    mean = (one + two) / 2
    between = np.array(a[:2], float) - np.array(b[:2], float)
    bhattacharyya = between @ np.linalg.inv(mean) @ between / 8 + 0.5 * np.log(
        np.linalg.det(mean) / np.sqrt(np.linalg.det(one) * np.linalg.det(two))
    )
    return 1 - np.sqrt(1 - np.exp(-np.clip(bhattacharyya, 1e-7, 100)))


def nms(boxes, scores, classes, threshold, per_class, overlap=iou):
    order = sorted(range(len(scores)), key=lambda at: (-scores[at], at))
    kept = []
    for at in order:
        rivals = [other for other in kept if not per_class or classes[other] == classes[at]]
        if all(overlap(boxes[at], boxes[other]) <= threshold for other in rivals):
            kept.append(at)
    return kept


def answer(boxes, scores, classes, kept, **more):
    found = []
    for at in kept:
        one = {"class_id": int(classes[at]), "score": float(scores[at]), "box": [float(x) for x in boxes[at]]}
        for name, values in more.items():
            one[name] = np.asarray(values[at], dtype=float).tolist()
        found.append(one)
    return found


def add(name, result, outputs, expected, labels=(), canvas=None, rows=1, parameters=None, non_finite=0):
    cases.append(
        {
            "name": name,
            "result": result,
            "labels": list(labels),
            "canvas": canvas,
            "rows": rows,
            "parameters": parameters or {},
            "outputs": [
                {
                    "name": key,
                    "shape": list(array.shape),
                    "data": [None if np.isnan(x) else round(float(x), 4) for x in array.ravel()],
                }
                for key, array in outputs.items()
            ],
            "expected": expected,
            "non_finite": non_finite,
        }
    )


def yolo():
    rows, anchors, classes = 2, 24, 3
    boxes = [clusters(anchors, 64, 48) for _ in range(rows)]
    scores = [numbers(anchors, classes) for _ in range(rows)]
    logits = [np.round(rng.normal(0, 2, (anchors, classes)), 3).astype(F) for _ in range(rows)]
    detections = {"kind": "detections", "decoder": "yolo"}
    labels = ["cat", "dog", "bird"]
    for name, raw, more, per_class in [
        ("yolo", scores, {}, True),
        ("yolo over all classes", scores, {"nms": "all"}, False),
        ("yolo with sigmoid", logits, {"activation": "sigmoid", "score_threshold": 0.5}, True),
    ]:
        expected = []
        for box, score in zip(boxes, raw):
            score = sigmoid(score) if "activation" in more else score
            best, chosen = score.max(1), score.argmax(1)
            sides = corners_of(box)
            own = np.flatnonzero(best > F(more.get("score_threshold", 0.25)))
            kept = nms(sides[own], best[own], chosen[own], F(0.45), per_class)
            expected.append(answer(sides[own], best[own], chosen[own], kept))
        output = np.stack([np.concatenate([box, score], 1) for box, score in zip(boxes, raw)])
        add(name, detections | more, {"y": output.transpose(0, 2, 1)}, expected, labels, rows=rows)
        add(f"{name}, transposed", detections | more, {"y": output}, expected, labels, rows=rows)
        if name == "yolo":
            add("yolo, the first 2", detections, {"y": output}, [one[:2] for one in expected], labels, rows=rows,
                parameters={"max": 2})
            parts = output.copy()
            parts[..., :4] /= np.array([64, 48, 64, 48], F)
            parts = np.round(parts, 4)
            sides = [corners_of(row[:, :4] * np.array([64, 48, 64, 48], F)) for row in parts]
            expected = []
            for side, score in zip(sides, scores):
                best, chosen = score.max(1), score.argmax(1)
                own = np.flatnonzero(best > F(0.9))
                expected.append(answer(side[own], best[own], chosen[own], nms(side[own], best[own], chosen[own], F(0.3), True)))
            add("yolo in parts of the input", detections | {"unit": "normalized"}, {"y": parts.transpose(0, 2, 1)},
                expected, labels, canvas=[64, 48], rows=rows, parameters={"score_threshold": 0.9, "iou_threshold": 0.3})


def yolo_with_gaps():
    boxes, scores = clusters(12, 64, 64), numbers(12, 2)
    scores[3] = np.nan
    scores[5, 0] = np.nan
    boxes[7, 2] = np.nan
    scores[7] = [0.9, 0.1]
    best, chosen = np.nanmax(np.where(np.isnan(scores), -1, scores), 1), np.argmax(np.where(np.isnan(scores), -1, scores), 1)
    own = np.array([at for at in range(12) if best[at] > F(0.25) and at != 7])
    sides = corners_of(boxes)
    kept = nms(sides[own], best[own], chosen[own], F(0.45), True)
    output = np.concatenate([boxes, scores], 1)[None].transpose(0, 2, 1)
    add("yolo with scores and a box that are no numbers", {"kind": "detections", "decoder": "yolo"}, {"y": output},
        [answer(sides[own], best[own], chosen[own], kept)], ["a", "b"], non_finite=4)


def yolo_pose_and_seg():
    boxes, scores = clusters(16, 64, 64), numbers(16, 1)
    points, masks = np.round(rng.uniform(0, 64, (16, 6)), 2).astype(F), numbers(16, 5)
    sides, best = corners_of(boxes), scores[:, 0]
    own = np.flatnonzero(best > F(0.25))
    kept = nms(sides[own], best[own], np.zeros(16)[own], F(0.45), True)
    expected = [answer(sides[own], best[own], np.zeros(16)[own], kept, keypoints=points[own].reshape(-1, 2, 3))]
    output = np.concatenate([boxes, scores, points], 1)[None]
    add("yolo with keypoints", {"kind": "detections", "decoder": "yolo", "keypoints": {"count": 2, "dimensions": 3}},
        {"y": output.transpose(0, 2, 1)}, expected, ["person"])
    output = np.concatenate([boxes, scores, masks], 1)[None]
    add("yolo with numbers for masks", {"kind": "detections", "decoder": "yolo", "mask_coefficients": 5},
        {"y": output.transpose(0, 2, 1)}, [answer(sides[own], best[own], np.zeros(16)[own], kept)], ["person"])


def turned_corners(box):
    cx, cy, w, h, angle = (float(x) for x in box)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    corners = np.array([[w, h], [w, -h], [-w, -h], [-w, h]]) / 2
    return corners @ turn.T + [cx, cy]


def turned():
    boxes, scores = clusters(20, 100, 100), numbers(20, 2)
    angles = np.round(rng.uniform(0, 1.5, (20, 1)), 3).astype(F)
    boxes = np.concatenate([boxes, angles], 1)
    best, chosen = scores.max(1), scores.argmax(1)
    own = np.flatnonzero(best > F(0.25))
    corners = np.stack([turned_corners(box) for box in boxes])
    sides = np.concatenate([corners.min(1), corners.max(1)], 1)
    kept = nms(boxes[own], best[own], chosen[own], 0.45, True, probiou)
    expected = [answer(sides[own], best[own], chosen[own], kept, corners=corners[own])]
    output = np.concatenate([boxes[:, :4], scores, boxes[:, 4:]], 1)[None].transpose(0, 2, 1)
    add("turned boxes of a raw head", {"kind": "detections", "decoder": "yolo", "rotated": True}, {"y": output}, expected,
        ["ship", "plane"])
    output = np.concatenate([boxes[:, :4], best[:, None], chosen[:, None].astype(F), boxes[:, 4:]], 1)[None]
    order = sorted(own, key=lambda at: -best[at])
    add("finished turned boxes", {"kind": "detections", "decoder": "end_to_end", "rotated": True}, {"y": output},
        [answer(sides, best, chosen, order, corners=corners)], ["ship", "plane"])


def objectness():
    anchors, classes = 24, 3
    boxes, sure, scores = clusters(anchors, 64, 64), numbers(anchors, 1), numbers(anchors, classes)
    best, chosen = (scores * sure).max(1), scores.argmax(1)
    sides = corners_of(boxes)
    own = np.flatnonzero(best > F(0.1))
    kept = nms(sides[own], best[own], chosen[own], F(0.45), True)
    output = np.concatenate([boxes, sure, scores], 1)[None]
    add("yolo with objectness", {"kind": "detections", "decoder": "yolo_objectness", "score_threshold": 0.1},
        {"y": output}, [answer(sides[own], best[own], chosen[own], kept)], ["a", "b", "c"])
    # YOLOX on 32 × 16 with strides 8 and 16: 8 + 2 cells.
    raw = np.concatenate([np.round(rng.normal(0, 0.5, (10, 4)), 3).astype(F), numbers(10, 1 + classes)], 1)
    cells = [(x, y, 8) for y in range(2) for x in range(4)] + [(x, y, 16) for y in range(1) for x in range(2)]
    boxes = np.stack(
        [
            np.array([(b[0] + F(x)) * F(s), (b[1] + F(y)) * F(s), np.exp(b[2]) * F(s), np.exp(b[3]) * F(s)], F)
            for b, (x, y, s) in zip(raw, cells)
        ]
    )
    best, chosen = (raw[:, 5:] * raw[:, 4:5]).max(1), raw[:, 5:].argmax(1)
    sides = corners_of(boxes)
    own = np.flatnonzero(best > F(0.25))
    kept = nms(sides[own], best[own], chosen[own], F(0.45), True)
    add("yolox", {"kind": "detections", "decoder": "yolox", "strides": [8, 16]}, {"y": raw[None]},
        [answer(sides[own], best[own], chosen[own], kept)], ["a", "b", "c"], canvas=[32, 16])


def finished():
    boxes, scores = corners_of(clusters(8, 64, 64)), numbers(8, 1)
    boxes = np.round(boxes, 2)
    classes = rng.integers(0, 3, (8, 1)).astype(F)
    order = sorted(np.flatnonzero(scores[:, 0] > F(0.25)), key=lambda at: -scores[at, 0])
    expected = answer(boxes, scores[:, 0], classes[:, 0], order)
    output = np.concatenate([boxes, scores, classes], 1)
    spec = {"kind": "detections", "decoder": "end_to_end"}
    add("finished boxes", spec, {"y": output[None]}, [expected], ["a", "b", "c"])
    add("finished boxes of one image", spec, {"y": output}, [expected], ["a", "b", "c"])
    batch = np.array([0, 2, 0, 0, 2, 2, 0, -1], F)[:, None]
    rows = [answer(boxes, scores[:, 0], classes[:, 0], [at for at in order if batch[at, 0] == row]) for row in range(3)]
    add("finished boxes with the row of each", spec, {"y": np.concatenate([batch, output], 1)}, rows, ["a", "b", "c"], rows=3)
    columns = ["batch", "x1", "y1", "x2", "y2", "class", "score"]
    add("finished boxes with named columns", spec | {"columns": columns},
        {"y": np.concatenate([batch, boxes, classes, scores], 1)}, rows, ["a", "b", "c"], rows=3)
    kept = nms(boxes[order], scores[order, 0], classes[order, 0], F(0.2), False)
    add("finished boxes with another suppression", spec | {"nms": "all", "iou_threshold": 0.2}, {"y": output[None]},
        [[expected[at] for at in kept]], ["a", "b", "c"])


def detr():
    logits = np.round(rng.normal(-1, 1.5, (2, 6, 3)), 3).astype(F)
    boxes = np.round(clusters(12, 64, 48) / np.array([64, 48, 64, 48], F), 4).reshape(2, 6, 4)
    sides = [corners_of(row * np.array([64, 48, 64, 48], F)) for row in boxes]
    spec = {"kind": "detections", "decoder": "detr", "outputs": {"logits": "pred_logits", "boxes": "pred_boxes"}}
    outputs = {"pred_logits": logits, "pred_boxes": boxes}
    expected = []
    for row in range(2):
        scores = sigmoid(logits[row]).ravel()
        order = sorted(np.flatnonzero(scores > F(0.25)), key=lambda at: (-scores[at], at))
        expected.append(answer(np.repeat(sides[row], 3, 0), scores, np.tile(np.arange(3), 6), order))
    add("detr with sigmoid", spec, outputs, expected, ["a", "b", "c"], canvas=[64, 48], rows=2)
    expected = []
    for row in range(2):
        power = np.exp(logits[row] - logits[row].max(1, keepdims=True))
        scores = (power / power.sum(1, keepdims=True))[:, :2]
        best, chosen = scores.max(1), scores.argmax(1)
        order = sorted(np.flatnonzero(best > F(0.25)), key=lambda at: (-best[at], at))
        expected.append(answer(sides[row], best, chosen, order))
    add("detr with softmax and no-object", spec | {"activation": "softmax"}, outputs, expected, ["a", "b"],
        canvas=[64, 48], rows=2)


def ssd():
    boxes = np.round(corners_of(clusters(10, 64, 48)) / np.array([64, 48, 64, 48], F), 4).reshape(2, 5, 4)
    scores = -np.sort(-numbers(2, 5), 1)
    classes = rng.integers(0, 3, (2, 5)).astype(F)
    count = np.array([3, 5], F)
    expected = []
    for row in range(2):
        order = [at for at in range(int(count[row])) if scores[row, at] > F(0.25)]
        expected.append(answer(boxes[row] * np.array([64, 48, 64, 48], F), scores[row], classes[row], order))
    spec = {"kind": "detections", "decoder": "ssd"}
    names = {"boxes": "b", "scores": "s", "classes": "c", "count": "n"}
    add("ssd, top before left", spec | {"outputs": names},
        {"b": boxes[..., [1, 0, 3, 2]], "s": scores, "c": classes, "n": count}, expected, ["a", "b", "c"], canvas=[64, 48], rows=2)
    pixels = np.round(boxes[0] * np.array([64, 48, 64, 48], F), 2)
    order = [at for at in range(5) if scores[0, at] > F(0.25)]
    add("ssd of one image in pixels", spec | {"outputs": {"boxes": "b", "scores": "s", "classes": "c"}, "box": "xyxy", "unit": "pixels"},
        {"b": pixels, "s": scores[0], "c": classes[0]}, [answer(pixels, scores[0], classes[0], order)], ["a", "b", "c"])
    raw = numbers(5, 3)
    best, chosen = raw.max(1), raw.argmax(1)
    own = np.flatnonzero(best > F(0.25))
    kept = nms(pixels[own], best[own], chosen[own], F(0.45), True)
    add("ssd with a score for each class", spec | {"outputs": {"boxes": "b", "scores": "s"}, "box": "xyxy", "unit": "pixels"},
        {"b": pixels, "s": raw}, [answer(pixels[own], best[own], chosen[own], kept)], ["a", "b", "c"])


def faces():
    """On 32 × 16: strides 8 (4 × 2 cells) and 16 (2 × 1 cells)."""
    grids = [(8, 4, 2), (16, 2, 1)]
    for form, anchors in [("scrfd", 2), ("yunet", 1)]:
        outputs, heads, boxes, scores, points = {}, [], [], [], []
        for stride, columns, lines in grids:
            count = columns * lines * anchors
            score, sure = numbers(count, 1), numbers(count, 1)
            raw = np.round(rng.uniform(0.2, 1.5, (count, 4)), 3).astype(F)
            marks = np.round(rng.normal(0, 1, (count, 10)), 3).astype(F)
            outputs |= {f"s{stride}": score[None], f"b{stride}": raw[None], f"k{stride}": marks[None]}
            heads.append({"stride": stride, "scores": f"s{stride}", "boxes": f"b{stride}", "keypoints": f"k{stride}"})
            if form == "yunet":
                outputs[f"o{stride}"] = sure[None]
                heads[-1]["objectness"] = f"o{stride}"
            for at in range(count):
                x, y = (at // anchors) % columns, (at // anchors) // columns
                a, b, c, d = raw[at]
                if form == "scrfd":
                    box = [(x - a) * stride, (y - b) * stride, (x + c) * stride, (y + d) * stride]
                    scores.append(score[at, 0])
                else:
                    width, height = np.exp(c) * stride, np.exp(d) * stride
                    box = [(x + a) * stride - width / 2, (y + b) * stride - height / 2]
                    box += [box[0] + width, box[1] + height]
                    scores.append(np.sqrt(score[at, 0] * sure[at, 0]))
                boxes.append(box)
                points.append([[(x + mark[0]) * stride, (y + mark[1]) * stride] for mark in marks[at].reshape(5, 2)])
        boxes, scores, points = np.array(boxes, F), np.array(scores, F), np.array(points, F)
        own = np.flatnonzero(scores > F(0.5))
        kept = nms(boxes[own], scores[own], np.zeros(len(own)), F(0.4), True)
        spec = {"kind": "detections", "decoder": "anchor_free_heads", "form": form, "heads": heads, "labels": ["face"],
                "score_threshold": 0.5, "iou_threshold": 0.4}
        add(form, spec, outputs, [answer(boxes[own], scores[own], np.zeros(len(own)), kept, keypoints=points[own])],
            ["face"], canvas=[32, 16])
        if form == "scrfd":
            add("scrfd without an axis of rows", spec, {name: array[0] for name, array in outputs.items()},
                cases[-1]["expected"], ["face"], canvas=[32, 16])


def rle(mask):
    """The text of COCO's `rleToString` for a mask of booleans."""
    runs, last = [0], False
    for pixel in mask.ravel(order="F"):
        if pixel != last:
            runs.append(0)
            last = pixel
        runs[-1] += 1
    found = ""
    for at, count in enumerate(runs):
        rest = count - runs[at - 2] if at > 2 else count
        more = True
        while more:
            bits, rest = rest & 31, rest >> 5
            more = rest != -1 if bits & 16 else rest != 0
            found += chr(48 + bits + (32 if more else 0))
    return {"size": list(mask.shape), "counts": found}


def bilinear(field, x, y):
    height, width = field.shape
    x, y = np.clip(x - 0.5, 0, width - 1), np.clip(y - 0.5, 0, height - 1)
    x1, y1 = int(x), int(y)
    x2, y2 = min(x1 + 1, width - 1), min(y1 + 1, height - 1)
    top = field[y1, x1] + (field[y1, x2] - field[y1, x1]) * (x - x1)
    low = field[y2, x1] + (field[y2, x2] - field[y2, x1]) * (x - x1)
    return top + (low - top) * (y - y1)


def masks():
    """Boxes on 32 x 24, prototypes of 8 x 6."""
    width, height = 32, 24
    boxes, scores = clusters(6, width, height), numbers(6, 2)
    weights = np.round(rng.normal(0, 1, (6, 3)), 2).astype(F)
    sheets = np.round(rng.normal(0, 1, (3, 6, 8)), 2).astype(F)
    best, chosen, sides = scores.max(1), scores.argmax(1), corners_of(boxes)
    own = np.flatnonzero(best > F(0.25))
    kept = [own[at] for at in nms(sides[own], best[own], chosen[own], F(0.8), True)]
    expected = answer(sides, best, chosen, kept)
    for at, found in zip(kept, expected):
        field = np.tensordot(weights[at].astype(float), sheets.astype(float), 1)
        left, top, right, bottom = sides[at]
        mask = np.zeros((height, width), bool)
        for y in range(height):
            for x in range(width):
                inside = left <= x + 0.5 <= right and top <= y + 0.5 <= bottom
                mask[y, x] = inside and bilinear(field, (x + 0.5) / 4, (y + 0.5) / 4) > 0
        found["rle"] = rle(mask)
    output = np.concatenate([boxes, scores, weights], 1)[None].transpose(0, 2, 1)
    add("masks of prototypes as runs",
        {"kind": "masks", "decoder": "yolo", "output": "y", "prototypes": "p", "encoding": "rle", "iou_threshold": 0.8},
        {"y": output, "p": sheets[None]}, [expected], ["a", "b"], canvas=[width, height])


def text():
    characters = list("abcdé中")
    for name, extra, blank, more in [
        ("ctc, blank first, with a space", 1, 0, {}),
        ("ctc, blank last", 0, 6, {"blank": "last", "space": False}),
        ("ctc with softmax", 1, 0, {"activation": "softmax", "space": True}),
    ]:
        table = characters + [" "] * extra
        table.insert(blank, "")
        raw = np.round(rng.normal(0, 2, (2, 9, len(table))), 3).astype(F)
        # The same character twice in a row, and again behind a blank.
        for at, which in enumerate([3, 3, blank, 3, 1, 1]):
            raw[0, at] = -3
            raw[0, at, which] = 4
        power = np.exp(raw - raw.max(2, keepdims=True))
        scores = (power / power.sum(2, keepdims=True)).astype(F)
        given = raw if "activation" in more else np.round(scores, 4)
        expected = []
        for row in (scores if "activation" in more else given):
            best = row.argmax(1)
            steps = [at for at in range(9) if best[at] != blank and (at == 0 or best[at] != best[at - 1])]
            found = [{"character": table[best[at]], "score": float(row[at, best[at]]), "at": at} for at in steps]
            mean = float(np.mean([step["score"] for step in found])) if found else 0.0
            expected.append({"text": "".join(step["character"] for step in found), "score": mean, "steps": found})
        spec = {"kind": "text"} | more
        add(name, spec, {"y": given}, expected, characters, rows=2, parameters={"steps": True})
        if not more:
            add("ctc, steps before rows", spec | {"time_major": True}, {"y": given.transpose(1, 0, 2)}, expected, characters,
                rows=2, parameters={"steps": True})


def regions():
    """Upright rectangles, for which every step has a simple result."""
    width, height = 40, 24
    image = np.zeros((1, 1, height, width), F)
    blocks = [(4, 3, 15, 8, 0.9), (22, 3, 37, 9, 0.8), (5, 14, 30, 20, 0.7), (35, 15, 36, 16, 0.9), (33, 20, 38, 23, 0.5)]
    expected = []
    for left, top, right, bottom, level in blocks:
        image[0, 0, top : bottom + 1, left : right + 1] = level
        w, h = right - left, bottom - top
        if min(w, h) < 3 or level < 0.6:
            continue
        distance = w * h * 1.5 / (2 * (w + h))
        x1, y1 = max(left - distance, 0), max(top - distance, 0)
        x2, y2 = min(right + distance, width), min(bottom + distance, height)
        expected.append({"polygon": [[x1, y1], [x2, y1], [x2, y2], [x1, y2]], "score": level})
    add("regions", {"kind": "regions"}, {"y": image}, [expected])
    wider = []
    for left, top, right, bottom, level in [(4, 3, 15, 8, 0.9), (22, 3, 37, 9, 0.8)]:
        right, bottom = right + 1, bottom + 1
        w, h = right - left, bottom - top
        distance = w * h * 1.5 / (2 * (w + h))
        x1, y1 = max(left - distance, 0), max(top - distance, 0)
        x2, y2 = min(right + distance, width), min(bottom + distance, height)
        # The score is a mean over the map, in which the added pixels are dark.
        score = level * w * h / ((w + 1) * (h + 1))
        wider.append({"polygon": [[x1, y1], [x2, y1], [x2, y2], [x1, y2]], "score": score})
    one_level = np.where(np.arange(height)[:, None] < 12, image, 0)
    add("regions with a dilation", {"kind": "regions", "dilation": True, "score_threshold": 0.5}, {"y": one_level}, [wider])
    double = [
        {"polygon": [[2 * x, 2 * y] for x, y in region["polygon"]], "score": region["score"]} for region in expected
    ]
    add("regions of a map that is smaller than the input", {"kind": "regions"}, {"y": image[:, 0]}, [double],
        canvas=[2 * width, 2 * height])


for make in [yolo, yolo_with_gaps, yolo_pose_and_seg, turned, objectness, finished, detr, ssd, faces, masks, text, regions]:
    make()
path = Path(__file__).resolve().parent / "cases.json"
lines = [json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in cases]
path.write_text("[\n" + ",\n".join(lines) + "\n]\n")
print(f"{len(cases)} cases in {path.name}")
