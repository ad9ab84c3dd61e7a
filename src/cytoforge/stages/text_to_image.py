"""A pretrained model and a prompt in, a folder of pictures out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cytoforge.core.batch import DataShape, to_float, to_uint8
from cytoforge.core.checkpoint import Checkpoint, load_checkpoint
from cytoforge.core.errors import ConfigError
from cytoforge.core.files import sha256_file
from cytoforge.core.run import Run
from cytoforge.core.settings import checked
from cytoforge.data.cache import mask_channels
from cytoforge.data.folder import decode, read_mask_file
from cytoforge.data.transform import Preparation, prepare
from cytoforge.methods.text_to_image import TextToImage, TextToImageConfig
from cytoforge.networks.unet import edges as outlines
from cytoforge.sampling.picture_provenance import Origin, PictureFolder
from cytoforge.sampling.seeds import parse_seeds
from cytoforge.training.state import load_modules

STRENGTH = 0.6
"""Of an image that is drawn anew, where nothing else is asked for."""


@dataclass(frozen=True)
class Sketch:
    """What a picture starts from besides words.

    Attributes:
        image: picture to draw anew in part.
        strength: in (0, 1], how much of it; None takes `STRENGTH`.
        control: mask, or a picture whose outlines are kept.
        controlnet: folder or hub name of the control network; None takes the run's.
        edges: `controlnet` was trained on outlines.
    """

    image: Path | None = None
    strength: float | None = None
    control: Path | None = None
    controlnet: str | None = None
    edges: bool = False

    @property
    def redrawn(self) -> float:
        """How much of `image` is drawn anew."""
        return STRENGTH if self.strength is None else self.strength


def draw(
    model: str,
    prompt: str,
    out: Path,
    seeds: str,
    *,
    avoid: str = "",
    run: Path | None = None,
    sketch: Sketch | None = None,
    settings: Mapping[str, Any] | None = None,
    device: str = "cpu",
) -> list[Path]:
    """Draw one picture for each seed and a manifest; each says in its text that it is synthetic.

    Args:
        model: folder in diffusers' layout, or hub name.
        prompt: what to draw.
        out: folder for `<seed>.png`: new, empty, or of the same model, words and sketch.
        seeds: such as "0-3".
        avoid: what not to draw.
        run: a training of `text-to-image`.
        sketch: an image or a mask to start from.
        settings: single settings of `TextToImageConfig`; the others are the run's, or the defaults.
        device: "cpu" or "cuda".

    Returns:
        The files.

    Raises:
        ConfigError: the model cannot be loaded, options do not fit each other, or `out` holds something else.
        CheckpointError: `run` is no such training.
        DataError: a picture cannot be read, or `sketch.control` is no mask.
    """
    sketch = sketch or Sketch()
    wanted = parse_seeds(seeds)
    trained = None if run is None else Run.open(run)
    loaded = None if trained is None else load_checkpoint(trained.checkpoints, "best")
    method = _opened(model, trained, loaded, sketch, dict(settings or {})).on(torch.device(device))
    heard, free = method.hear([prompt]), method.hear([avoid])
    start = None if sketch.image is None else _picture(sketch.image, method.config.size).to(device)
    own = None if trained is None or sketch.controlnet else trained.config["preparation"]
    condition = _condition(sketch.control, method.config, own)
    marks = {"Generator": method.name, "Model": _without_place(model), "Prompt": prompt}
    settled = method.config.model_dump(mode="json")
    facts = {
        "settings": settled | {name: _without_place(settled[name]) for name in ("checkpoint", "controlnet")},
        "avoid": avoid,
        "config_sha256": None if trained is None else trained.config_hash,
        "checkpoint_sha256": None if loaded is None else loaded.sha256,
        "sketch": _stated(sketch),
    }
    folder = PictureFolder(out, Origin(command="text-to-image", marks=marks, facts=facts, device=device))
    files = []
    for seed in wanted:
        with torch.no_grad():
            image = method.draw(
                method.noise(np.array([seed])).to(device),
                heard,
                free,
                None if condition is None else condition.to(device),
                start,
                sketch.redrawn,
            )
        files.append(folder.draw(f"{seed:08d}.png", to_uint8(image)[0], {"Seed": str(seed)}))
        folder.seal()
    return files


def _stated(sketch: Sketch) -> dict[str, Any]:
    """What decides the pixels of a sketch; its pictures by their content."""
    paths = {"image": sketch.image, "control": sketch.control}
    hashes = {name: None if path is None else sha256_file(path) for name, path in paths.items()}
    return {**vars(sketch), **hashes, "controlnet": _without_place(sketch.controlnet or "")}


def _without_place(model: str) -> str:
    """A hub name as it is; of a local folder the last part, so that no home folder is named."""
    return Path(model).resolve().name if Path(model).exists() else model


def _opened(
    model: str, trained: Run | None, loaded: Checkpoint | None, sketch: Sketch, settings: dict[str, Any]
) -> TextToImage:
    """The model with the additions of a run, or as it is."""
    if sketch.strength is not None and sketch.image is None:
        raise ConfigError("--strength says how much of --image is drawn anew; give --image, or leave it out.")
    if not 0 < sketch.redrawn <= 1:
        raise ConfigError(f"--strength: expected more than 0 and at most 1, got {sketch.strength}.")
    if trained is not None and trained.config["method"] != TextToImage.name:
        kind = trained.config["method"]
        raise ConfigError(f"{trained.path} is a training of {kind}, not of {TextToImage.name}.")
    values = {**(trained.config["settings"] if trained else {}), **settings, "checkpoint": model}
    if sketch.controlnet:
        values |= {"controlnet": sketch.controlnet, "condition": "edges" if sketch.edges else "masks"}
    config = checked(TextToImageConfig, values, "text-to-image")
    if sketch.control is not None and config.condition == "none":
        raise ConfigError(
            "--control needs a control network: give --controlnet, or a --run that trained one."
        )
    if sketch.edges and config.condition != "edges":
        raise ConfigError("--edges needs a control network of edges: give --controlnet, or a --run with one.")
    method = TextToImage(config, DataShape(config.size, trained.config["classes"] if trained else ()))
    if loaded is not None:
        networks = {
            name: part for name, part in method.networks.items() if name == "adapter" or not sketch.controlnet
        }
        load_modules(loaded.tensors, "network", networks)
    return method


def _condition(
    control: Path | None, config: TextToImageConfig, preparation: Mapping[str, Any] | None
) -> Tensor | None:
    """Masks (1, 2, S, S), or edges (1, 1, S, S) where the control network hears these.

    Args:
        control: file.
        config: of the method.
        preparation: of the run that trained the control network, which heard edges of cells prepared so;
            None where it comes from elsewhere and hears edges at full size.
    """
    if control is None:
        return None
    if config.condition == "edges" and preparation is not None:
        cell = prepare(decode(control), Preparation.model_validate(preparation))
        return outlines(to_float(np.stack([cell])))
    if config.condition == "edges":
        return outlines(_picture(control, config.size))
    return mask_channels(_square(read_mask_file(control))[None])


def _picture(path: Path, size: int) -> Tensor:
    """A picture file as (1, 3, size, size) in [-1, 1], its middle square."""
    square = to_float(_square(decode(path))[None])
    return F.interpolate(square, (size, size), mode="bilinear", antialias=square.shape[-1] > size)


def _square(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The middle square (S, S, ...) of a picture or mask (H, W, ...)."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]
