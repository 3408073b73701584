"""Measure model.onnx on digits drawn in boxes of other sizes than 28x28.

    python robustness.py HELDOUT [--model FILE] [--font FILE ...]

HELDOUT is the file that train.py --heldout writes. Three sets of pictures are
drawn, each dark on light and light on dark, and shrunk to 28x28 as the server
does it (contain, antialiased bilinear, padded with the mean of the edge):

  heldout  every held-out digit, enlarged, at a random place and size
  strokes  simple digits drawn with a round pen of random width
  fonts    the digits of each --font file at random sizes

Prints the share that is right for each set and box size.
"""

import argparse
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageDraw, ImageFont

BOXES = [(64, 64), (280, 280), (200, 400), (400, 300), (600, 600)]
STROKE_ROUNDS = 20

# Each digit as strokes through points of a unit box, y downwards. "o" marks an ellipse.
STROKES = {
    0: [("o", 0, 0, 1, 1)],
    1: [[(0.5, 0), (0.5, 1)]],
    2: [[(0.05, 0.25), (0.2, 0.05), (0.5, 0), (0.8, 0.05), (0.95, 0.25), (0.8, 0.5), (0, 1), (1, 1)]],
    3: [[(0.05, 0.1), (0.4, 0), (0.8, 0.05), (0.9, 0.25), (0.75, 0.42), (0.35, 0.48), (0.8, 0.55),
         (1, 0.75), (0.8, 0.95), (0.4, 1), (0, 0.9)]],
    4: [[(0.6, 0), (0, 0.65), (1, 0.65)], [(0.75, 0.3), (0.75, 1)]],
    5: [[(0.95, 0), (0.15, 0), (0.1, 0.42), (0.55, 0.38), (0.9, 0.5), (1, 0.7), (0.85, 0.93), (0.45, 1), (0, 0.9)]],
    6: [[(0.8, 0), (0.4, 0.2), (0.1, 0.5), (0.02, 0.75)], ("o", 0, 0.5, 0.95, 1)],
    7: [[(0, 0), (1, 0), (0.35, 1)]],
    8: [("o", 0.1, 0, 0.9, 0.48), ("o", 0, 0.48, 1, 1)],
    9: [("o", 0.05, 0, 0.95, 0.5), [(0.95, 0.25), (0.9, 0.6), (0.7, 1)]],
}


def place(rng, box, aspect):
    """A random rectangle (left, top, width, height) inside the box, 45-90 % of its height."""
    width, height = box
    tall = rng.uniform(0.45, 0.9) * height
    wide = tall * aspect
    if wide > 0.9 * width:
        tall, wide = tall * 0.9 * width / wide, 0.9 * width
    return rng.uniform(0.03 * width, 0.97 * width - wide), rng.uniform(0.03 * height, 0.97 * height - tall), wide, tall


def enlarge(rng, box, pixels):
    """A held-out digit enlarged into the box; its edges are made hard, its pen wide or thin."""
    rows, columns = np.where(pixels > 40)
    cut = Image.fromarray(pixels[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1])
    left, top, wide, tall = place(rng, box, cut.width / cut.height)
    cut = cut.resize((max(1, round(wide)), max(1, round(tall))), Image.Resampling.BICUBIC)
    level = rng.uniform(60, 150)
    canvas = Image.new("L", box)
    canvas.paste(cut.point(lambda v: max(0, min(255, (v - level) * 4 + 128))), (round(left), round(top)))
    return canvas


def draw_strokes(rng, box, digit):
    """A digit of STROKES, a little slanted, drawn with a round pen."""
    left, top, wide, tall = place(rng, box, 0.15 if digit == 1 else rng.uniform(0.5, 0.8))
    pen = rng.uniform(0.04, 0.16) * tall
    slant = rng.uniform(-0.15, 0.15)
    canvas = Image.new("L", box)
    draw = ImageDraw.Draw(canvas)
    for stroke in STROKES[digit]:
        if stroke[0] == "o":
            x0, y0, x1, y1 = stroke[1:]
            turn = np.linspace(0, 2 * np.pi, 40)
            points = zip((x0 + x1) / 2 + (x1 - x0) / 2 * np.cos(turn), (y0 + y1) / 2 + (y1 - y0) / 2 * np.sin(turn))
        else:
            points = stroke
        points = [(left + wide * (x + slant * (0.5 - y)), top + tall * y) for x, y in points]
        draw.line(points, fill=255, width=max(1, round(pen)))
        for x, y in points:
            draw.ellipse((x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2), fill=255)
    return canvas


def draw_font(rng, box, digit, font):
    """A digit in a font, at a random place and size."""
    face = ImageFont.truetype(font, 100)
    x0, y0, x1, y1 = face.getbbox(str(digit))
    left, top, _, tall = place(rng, box, (x1 - x0) / (y1 - y0))
    canvas = Image.new("L", box)
    face = ImageFont.truetype(font, 100 * tall / (y1 - y0))
    ImageDraw.Draw(canvas).text((left, top), str(digit), fill=255, font=face, anchor="lt")
    return canvas


def shrink(canvas):
    """To 28x28: keep the shape, pad with the mean of the edge."""
    ratio = 28 / max(canvas.size)
    small = canvas.resize([max(1, round(s * ratio)) for s in canvas.size], Image.Resampling.BILINEAR)
    values = np.asarray(canvas)
    edge = np.concatenate([values[0], values[-1], values[1:-1, 0], values[1:-1, -1]]).mean()
    result = Image.new("L", (28, 28), round(edge))
    result.paste(small, ((28 - small.width) // 2, (28 - small.height) // 2))
    return np.asarray(result)


def main():
    parser = argparse.ArgumentParser(description="Measure the model on drawn digits.")
    parser.add_argument("heldout", type=Path)
    parser.add_argument("--model", type=Path, default=Path(__file__).resolve().parent / "model.onnx")
    parser.add_argument("--font", action="append", default=[])
    args = parser.parse_args()

    records = np.frombuffer(args.heldout.read_bytes(), np.uint8).reshape(-1, 785)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(args.model), options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(7)

    sets = {
        "heldout": [(r[0], lambda box, r=r: enlarge(rng, box, r[1:].reshape(28, 28))) for r in records],
        "strokes": [(d, lambda box, d=d: draw_strokes(rng, box, d)) for d in range(10) for _ in range(STROKE_ROUNDS)],
        "fonts": [(d, lambda box, d=d, f=f: draw_font(rng, box, d, f)) for f in args.font for d in range(10)],
    }
    for name, pictures in sets.items():
        if not pictures:
            continue
        labels = np.array([label for label, _ in pictures])
        total = []
        for box in BOXES:
            for polarity in ("light on dark", "dark on light"):
                images = []
                for _, draw in pictures:
                    strength = rng.uniform(0.3, 1)
                    canvas = draw(box).point(lambda v: round(v * strength))
                    if polarity == "dark on light":
                        canvas = canvas.point(lambda v: 255 - v)
                    images.append(shrink(canvas))
                image = np.stack(images)[:, None].astype(np.float32) / np.float32(255)
                right = session.run(None, {"image": image})[0].argmax(1) == labels
                total.append(right)
                print(f"{name:8} {box[0]:3}x{box[1]:<3} {polarity}: {100 * right.mean():.1f} %")
        each = np.stack(total)
        by_digit = " ".join(f"{d}:{100 * each[:, labels == d].mean():.0f}" for d in range(10))
        print(f"{name:8} all: {100 * each.mean():.1f} % of {each.size}; by digit {by_digit}")


if __name__ == "__main__":
    main()
