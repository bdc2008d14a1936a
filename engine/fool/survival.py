"""Does it survive? What a network says of a picture after it has been saved, blurred and scaled, and what others say.

A picture that fools a network as an array may do so no longer as a file: Kurakin, Goodfellow, Bengio 2016,
arXiv:1607.02533. Whether it fools another network, too: Szegedy et al. 2013, arXiv:1312.6199, section 4.2.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from PIL import Image
from scipy.ndimage import gaussian_filter

from engine import image as pictures
from engine.net import Net, softmax

QUALITIES, WIDTHS, SCALES = (95, 75, 50), (0.5, 1.0, 2.0), (0.5, 0.75)


def survival(net: Net, image: np.ndarray) -> pd.DataFrame:
    """What the network says of a picture after each of several ways that pictures go through.

    image: (H, W, C) pixels of the net's own size.
    Returns a row for each: treatment, class (the likeliest one's number), label, probability (of it), and p0, p1, …,
    the probability of every class.
    """
    treated = treatments(image)
    rows = softmax(net.scores(net.batch(*treated.values())))
    best = rows.argmax(1)
    found = {
        "treatment": list(treated),
        "class": best,
        "label": [net.labels[k] for k in best],
        "probability": rows[range(len(rows)), best].astype(float),
    }
    return pd.DataFrame(found | {f"p{k}": rows[:, k].astype(float) for k in range(rows.shape[1])})


def treatments(image: np.ndarray) -> dict[str, np.ndarray]:
    """The picture (H, W, C) as it comes back from each treatment, by its name; each from the 8-bit PNG."""
    channels = image.shape[2]
    png = pictures.load(pictures.to_png(image))[..., :channels]
    found = {"PNG, 8 bits": png}
    for quality in QUALITIES:
        found[f"JPEG, quality {quality}"] = jpeg(png, quality)
    for width in WIDTHS:
        found[f"Gaussian blur, σ {width:g} pixels"] = gaussian_filter(png, (width, width, 0), mode="nearest")
    for scale in SCALES:
        size = tuple(max(round(side * scale), 1) for side in png.shape[:2])
        back = pictures.resize(pictures.resize(png, size), png.shape[:2])
        found[f"Scaled to {scale:.0%} and back"] = back.clip(0, 1)
    return {name: np.ascontiguousarray(pixels, np.float32) for name, pixels in found.items()}


def jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    """(H, W, C) as it comes back from a JPEG file of that quality, 1 to 95; colours at full resolution."""
    whole = np.rint(pixels * 255).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    mode = Image.fromarray(whole[..., 0] if whole.shape[2] == 1 else whole)
    mode.save(file, "JPEG", quality=quality, subsampling=0)
    back = np.asarray(Image.open(file), np.float32) / 255
    return back[..., None] if back.ndim == 2 else back


def transfer(nets: Sequence[Net], made: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """What each network says of pictures that were made to fool one of them.

    made: (H, W, C) pixels by a name, each of any size; every network is given its own view of it, of the 8-bit PNG.
    Returns a row per picture and network: picture, net, class, label, probability.
    """
    rows = []
    for name, pixels in made.items():
        whole = pictures.load(pictures.to_png(pixels))
        for net in nets:
            said = softmax(net.scores(net.batch(net.view(whole)[0])))[0]
            k = int(said.argmax())
            rows.append({"picture": name, "net": net.name, "class": k, "label": net.labels[k], "probability": said[k]})
    return pd.DataFrame(rows)
