"""Make the README's gallery: `python .readme/gallery.py [FILE …]` runs the project's commands, their pictures abreast.

Needs GoogLeNet as `googlenet_imagenet`, SqueezeNet as `squeezenet1_1_imagenet`, and the one that was trained on places
as `squeezenet_places365` among the networks that are at hand. {church} and {parachute} are folders of Imagenette's.
"""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
from PIL import Image

HERE = Path(__file__).parent
PAINTINGS = Path(os.environ.get("CONVOSCOPE_SHARED", HERE.parent.parent / "shared"), "paintings")
PHOTOGRAPHS = PAINTINGS.parent / "data" / "imagenette160" / "val.parquet"
FOLDERS = ("church", "parachute")
HEIGHT, GAP = 224, 6  # pixels
GOOGLENET, SQUEEZENET = "--net googlenet_imagenet", "--net squeezenet1_1_imagenet"
PLACES = "--net squeezenet_places365 --layer /features/features.11/Concat_output_0"
PEBBLES = f"--image {PAINTINGS}/texture_pebbles.jpg"
FOUR = ("1,0,0,0", "0,1,0,0", "0,0,1,0", "0,0,0,1")  # each style alone
LAYERS = [f"/features/features.{layer}_output_0" for layer in ("1/Relu", "4/Concat", "7/Concat", "10/Concat")]
GALLERY = {  # file → commands, whose pictures stand side by side
    "gallery_maximize.jpg": [
        f'maximize {GOOGLENET} --image china --class "{name}" --steps 256'
        for name in ("flamingo", "goldfish", "ladybug", "pirate")
    ],
    "gallery_deepdream.jpg": [
        f"deepdream {GOOGLENET} --image china --picture china --size 400",
        f"deepdream {GOOGLENET} --image cat --picture cat --size 400",
        f"deepdream {PLACES} --image coffee --picture coffee --size 400",
    ],
    "gallery_facets.jpg": [f"facets {GOOGLENET} --class church --pictures {{church}} --steps 128"],
    "gallery_prior.jpg": [
        "decoded --net imagenette --image {parachute}/3.jpg",
        "maximize-code --net imagenette --image china --class church --steps 6",
        f"maximize-code {GOOGLENET} --image china --class parachute --start mean --steps 40 --smooth 0.5 --decay 0.03",
    ],
    "gallery_style.jpg": [
        f"style-transfer {SQUEEZENET} --image china --picture china --style {PAINTINGS}/{style}.jpg --size 256"
        for style in ("starry_night_van_gogh", "kandinsky", "la_cafe_van_gogh")
    ],
    "gallery_fast_style.jpg": [f"fast-style --image china --mix {mix}" for mix in FOUR],
    "gallery_inversion.jpg": [f"inversion {SQUEEZENET} --image cat --layer {layer}" for layer in LAYERS],
    "gallery_fool.jpg": [
        f"fooling {SQUEEZENET} --image cat --class toaster",
        f"fooling {SQUEEZENET} --image china --class koala",
        f"patch {SQUEEZENET} --data {PHOTOGRAPHS} --class toaster",
    ],
    "gallery_texture.jpg": [
        *[f"texture {GOOGLENET} {PEBBLES} --depth {depth} --size 192 --steps 200" for depth in (1, 2, 3, 4)],
        f"grow {PEBBLES} --longest 96 --side 80 --size 96 --window 15 --seed 1",
    ],
}


def pictures_of(label: str, folder: Path) -> Path:
    """A folder with those pictures of PHOTOGRAPHS that have this label, by their number among them."""
    data, made = pd.read_parquet(PHOTOGRAPHS), folder / label
    made.mkdir()
    for number, picture in enumerate(data.image[data.label_name == label]):
        (made / f"{number}.jpg").write_bytes(picture["bytes"] if isinstance(picture, dict) else picture)
    return made


def main(wanted: list[str]) -> None:
    for file, commands in GALLERY.items():
        if wanted and file not in wanted:
            continue
        pictures = []
        for command in commands:
            with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as of_class:
                shown = {name: pictures_of(name, Path(of_class)) for name in FOLDERS if f"{{{name}}}" in command}
                words = [sys.executable, "-m", "engine", *shlex.split(command.format(**shown)), "--out", folder]
                subprocess.run(words, cwd=HERE.parent, check=True)
                file_of = Path(folder, "print.png" if command.startswith("patch") else "picture.png")
                picture = Image.open(io.BytesIO(file_of.read_bytes())).convert("RGB")
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
