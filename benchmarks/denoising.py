"""What noise reduction does to nuclei: real Herlev cells with their masks, as they are and with noise added.

    python benchmarks/denoising.py DATA/herlev [--cells 40]

Prints, for each method and each amount of added noise, medians over cells: peak signal-to-noise ratio inside
the nucleus against the picture before noise (dB), and its texture against that picture (1 = unchanged).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.restoration import denoise_bilateral, denoise_tv_chambolle

from cytoforge.data.folder import open_cells, read_image, read_mask
from cytoforge.data.texture import texture_change
from cytoforge.data.transform import denoise, noise_level

Picture = NDArray[np.uint8]


def to_levels(values: NDArray[np.float64]) -> Picture:
    """Grey levels 0..255, rounded."""
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)


def gaussian(image: Picture) -> Picture:
    """Gaussian blur of one pixel."""
    return to_levels(ndimage.gaussian_filter(image.astype(float), (1, 1, 0)))


def bilateral(image: Picture) -> Picture:
    """Bilateral filter, twice the measured noise wide."""
    sigma = max(2 * noise_level(image) / 255, 1e-4)
    return to_levels(
        denoise_bilateral(image / 255, sigma_color=sigma, sigma_spatial=1.5, channel_axis=-1) * 255
    )


def total_variation(image: Picture) -> Picture:
    """Total variation, weighed by the measured noise."""
    weight = max(noise_level(image) / 255, 1e-6)
    return to_levels(denoise_tv_chambolle(image / 255, weight=weight, channel_axis=-1) * 255)


METHODS: dict[str, Callable[[Picture], Picture]] = {
    "none": lambda image: image,
    "gaussian 1 px": gaussian,
    "median 3 px": lambda image: ndimage.median_filter(image, (3, 3, 1)),
    "bilateral": bilateral,
    "total variation": total_variation,
    "ours, 0.4": lambda image: denoise(image, 0.4),
    "ours, 0.5": lambda image: denoise(image, 0.5),
    "ours, 0.6": lambda image: denoise(image, 0.6),
    "ours, 1.0": lambda image: denoise(image, 1.0),
}


def nuclei(root: Path, count: int) -> list[tuple[Picture, NDArray[np.bool_]]]:
    """Pictures and the inside of their nuclei."""
    cells = open_cells(root).cells
    found = []
    for index in np.random.default_rng(0).permutation(len(cells)):
        mask = read_mask(cells[index])
        if mask is None:
            continue
        inside = ndimage.binary_erosion(mask == 2, iterations=2)
        if inside.sum() >= 80 and len(found) < count:
            found.append((read_image(cells[index]), inside))
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="What noise reduction does to nuclei")
    parser.add_argument("data", type=Path)
    parser.add_argument("--cells", type=int, default=40)
    arguments = parser.parse_args()
    cells = nuclei(arguments.data, arguments.cells)
    rng = np.random.default_rng(1)
    for added in (0, 3, 8):
        print(f"\n{len(cells)} nuclei, noise of {added} grey levels added")
        print(f"{'method':16s}   PSNR  contrast  entropy  sharpness  agreement")
        noisy = [to_levels(image + rng.normal(0, added, image.shape)) for image, _ in cells]
        for name, method in METHODS.items():
            rows = []
            for (image, inside), worse in zip(cells, noisy, strict=True):
                result = method(worse)
                error = np.mean((result[inside].astype(float) - image[inside]) ** 2)
                change = texture_change(image, result, inside)
                ratio = 10 * np.log10(255**2 / max(error, 1e-3))
                rows.append((ratio, change.contrast, change.entropy, change.sharpness, change.agreement))
            ratio, contrast, entropy, sharpness, agreement = np.median(rows, axis=0)
            print(
                f"{name:16s} {ratio:6.1f} {contrast:9.2f} {entropy:8.2f} {sharpness:10.2f} {agreement:10.2f}"
            )


if __name__ == "__main__":
    main()
