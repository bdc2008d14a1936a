"""Make the README's gallery: `python .readme/gallery.py [FILE …]` runs the project's commands, their pictures abreast.

Needs GoogLeNet as `googlenet_imagenet` and SqueezeNet as `squeezenet1_1_imagenet` among the networks that are at hand.
"""

from __future__ import annotations

import io
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
HEIGHT, GAP = 224, 6  # pixels
GOOGLENET, SQUEEZENET = "--net googlenet_imagenet", "--net squeezenet1_1_imagenet"
GALLERY = {  # file → commands, whose pictures stand side by side
    "gallery_maximize.jpg": [
        f'maximize {GOOGLENET} --image china --class "{name}" --steps 256'
        for name in ("flamingo", "goldfish", "ladybug", "pirate")
    ],
}


def main(wanted: list[str]) -> None:
    for file, commands in GALLERY.items():
        if wanted and file not in wanted:
            continue
        pictures = []
        for command in commands:
            with tempfile.TemporaryDirectory() as folder:
                words = [sys.executable, "-m", "engine", *shlex.split(command), "--out", folder]
                subprocess.run(words, cwd=HERE.parent, check=True)
                picture = Image.open(io.BytesIO(Path(folder, "picture.png").read_bytes())).convert("RGB")
            wide = round(picture.width * HEIGHT / picture.height)
            pictures.append(picture.resize((wide, HEIGHT), Image.Resampling.LANCZOS))
        strip = Image.new("RGB", (sum(p.width + GAP for p in pictures) - GAP, HEIGHT), "white")
        left = 0
        for picture in pictures:
            strip.paste(picture, (left, 0))
            left += picture.width + GAP
        strip.save(HERE / file, quality=88)
        print(HERE / file)


if __name__ == "__main__":
    main(sys.argv[1:])
