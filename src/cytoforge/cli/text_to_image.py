"""`cytoforge text-to-image`: a pretrained model draws what a prompt, an image and a mask say."""

from __future__ import annotations

from pathlib import Path

from cytoforge.cli.console import Outcome


def text_to_image(
    model: str,
    *,
    prompt: str,
    out: Path,
    avoid: str = "",
    run: Path | None = None,
    image: Path | None = None,
    strength: float | None = None,
    control: Path | None = None,
    controlnet: str | None = None,
    edges: bool = False,
    seeds: str = "0-3",
    guidance: float | None = None,
    steps: int | None = None,
    size: int | None = None,
    device: str = "cpu",
) -> Outcome:
    """Draw pictures from words with a pretrained Stable Diffusion or Flux model.

    Args:
        model: folder in diffusers' layout, or hub name such as owner/model.
        prompt: what to draw.
        out: folder for the pictures.
        avoid: what not to draw.
        run: a training of text-to-image, whose additions (and control network) and settings are used.
        image: picture to start from, a single cell or a block of cells.
        strength: how much of --image is drawn anew, up to 1; 0.6 where not given.
        control: mask (0 background, 1 cytoplasm, 2 nucleus; or 0, 128, 255), or a picture for its outlines.
        controlnet: folder or hub name of the control network, where --run has none.
        edges: --controlnet hears the outlines of --control; with --run, the run says so.
        seeds: numbers and ranges, for example 0-99,200.
        guidance: 1 follows the prompt as learned, more makes pictures typical; the run's, or 4.
        steps: from noise to picture; the run's, or 25.
        size: side of the pictures in pixels; the run's, or 512.
        device: cpu or cuda.
    """
    from cytoforge.stages.text_to_image import Sketch, draw

    sketch = Sketch(image=image, strength=strength, control=control, controlnet=controlnet, edges=edges)
    wanted = {"guidance": guidance, "steps": steps, "size": size}
    settings = {name: value for name, value in wanted.items() if value is not None}
    files = draw(
        model, prompt, out, seeds, avoid=avoid, run=run, sketch=sketch, settings=settings, device=device
    )
    return Outcome({"out": out, "images": [file.name for file in files]}, f"{len(files)} pictures in {out}.")
