"""Draws the README's picture: the source and every turn with its scores, side by side.

Usage: ``python examples/strip.py photo.jpg turns/ strip.jpg`` with the folder written by ``editthinker edit --save-turns``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

WIDTH, CAPTION = 420, 74


def tile(picture: Image.Image, title: str, detail: str) -> Image.Image:
    """A picture with two lines of text below it."""
    height = round(picture.height * WIDTH / picture.width)
    out = Image.new("RGB", (WIDTH, height + CAPTION), "white")
    out.paste(picture.convert("RGB").resize((WIDTH, height), Image.Resampling.LANCZOS))
    draw = ImageDraw.Draw(out)
    draw.text((4, height + 10), title, "black", ImageFont.load_default(22))
    draw.text((4, height + 42), detail, "#555555", ImageFont.load_default(17))
    return out


def main(photo: str, folder: str, output: str) -> None:
    """Write the strip."""
    session = json.loads((Path(folder) / "session.json").read_text())
    tiles = [tile(Image.open(photo), "source", f'"{session["instruction"]}"')]
    for turn in session["turns"]:
        scores = turn["candidates"][0]["scores"]
        best = session["best"]["turn"] == turn["turn"]
        title = f"turn {turn['turn']}" + (f": {session['finish_reason']}" if best else "")
        detail = f"semantic {scores['semantic']:g}, quality {scores['quality']:g}"
        tiles.append(tile(Image.open(Path(folder) / f"turn-{turn['turn']}.png"), title, detail))
    strip = Image.new("RGB", (sum(t.width for t in tiles) + 12 * (len(tiles) - 1), tiles[0].height), "white")
    for number, one in enumerate(tiles):
        strip.paste(one, (number * (WIDTH + 12), 0))
    strip.save(output, quality=88)


if __name__ == "__main__":
    main(*sys.argv[1:4])
