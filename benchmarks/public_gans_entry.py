"""One public generator, trained and drawn in its own environment; started by `public_gans.py`, not by hand.

    python benchmarks/public_gans_entry.py NAME IMAGES OUT --minutes 10 --draw-minutes 10 --count 1000
    --threads 2

IMAGES is a flat folder of square PNG files. Writes OUT/images.npy, (N, R, R, 3) uint8, and OUT/cost.json, or
OUT/refused.json with the message where the package does not work. Settings are the package's own defaults,
those of its command line or of the example in its README where the class has none.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from cytoforge.networks.torchvision_cpu import prepare_torchvision

DDIM_STEPS = 25
"""Steps of the diffusion sampler; the README's 250 would take ten times as long to draw with."""

Draw = Callable[[int], Tensor]
"""A number of images -> (N, 3, R, R) in [0, 1]."""


class TimeIsUpError(Exception):
    """The training's minutes are over."""


class Clock:
    """Counts a training's time and images; it starts with the first batch.

    Args:
        minutes: of training.
    """

    def __init__(self, minutes: float) -> None:
        self.minutes, self.seen = minutes, 0
        self.start: float | None = None

    @property
    def seconds(self) -> float:
        """Since the start."""
        return 0.0 if self.start is None else time.monotonic() - self.start

    def watched(self, batches: Iterator[Any]) -> Iterator[Any]:
        """The batches, until time is up: a way to stop a training loop that has no other end.

        Raises:
            TimeIsUpError: instead of another batch.
        """
        self.start = time.monotonic() if self.start is None else self.start
        for batch in batches:
            if self.seconds >= 60 * self.minutes:
                raise TimeIsUpError
            self.seen += len(batch[0] if isinstance(batch, list | tuple) else batch)
            yield batch


def diffusion(folder: Path, out: Path, side: int, clock: Clock) -> Draw:
    """denoising-diffusion-pytorch: the README's U-Net, the Trainer's defaults, its moving average draws."""
    from denoising_diffusion_pytorch import GaussianDiffusion, Trainer, Unet

    model = GaussianDiffusion(
        Unet(dim=64, dim_mults=(1, 2, 4, 8)), image_size=side, sampling_timesteps=DDIM_STEPS
    )
    trainer = Trainer(
        model, str(folder), train_num_steps=10**9, save_and_sample_every=10**9, calculate_fid=False,
        results_folder=str(out / "work"),
    )  # fmt: skip
    trainer.dl = clock.watched(trainer.dl)
    with suppress(TimeIsUpError):
        trainer.train()
    trainer.ema.ema_model.eval()
    return lambda count: trainer.ema.ema_model.sample(batch_size=count)


def lightweight(folder: Path, out: Path, side: int, clock: Clock) -> Draw:
    """lightweight-gan: the command line's defaults; its calls of CUDA must already have been turned away."""
    from lightweight_gan import lightweight_gan as package

    if not torch.cuda.is_available():
        _without_cuda(package)
    trainer = package.Trainer(
        name="cells", base_dir=str(out / "work"), image_size=side, batch_size=10, gradient_accumulate_every=4,
        attn_res_layers=[32], disc_output_size=1, use_aim=False, num_workers=0, save_every=10**9,
        evaluate_every=10**9,
    )  # fmt: skip
    trainer.evaluate = lambda *_, **__: None
    trainer.save = lambda *_: None
    trainer.set_data_src(str(folder))
    trainer.loader = clock.watched(trainer.loader)
    with suppress(TimeIsUpError):
        while True:
            trainer.train()
    gan = trainer.GAN.eval()
    # the average only begins at step 20,000
    return lambda count: gan.G(torch.randn(count, trainer.latent_dim, device=trainer_device(gan))).clamp(0, 1)


def mimicry(folder: Path, out: Path, side: int, clock: Clock) -> Draw:
    """torch-mimicry: the README's SNGAN for 64 px, batch 64, five discriminator steps, Adam 2e-4 (0, 0.9)."""
    import torch_mimicry as mmc
    from torch.utils.data import DataLoader, TensorDataset
    from torch_mimicry.nets import sngan

    files = sorted(folder.glob("*.png"))
    pictures = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in files])
    images = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator, discriminator = (
        getattr(sngan, f"SNGAN{player}{side}")().to(device) for player in ("Generator", "Discriminator")
    )
    first, second = (
        torch.optim.Adam(network.parameters(), 2e-4, betas=(0.0, 0.9))
        for network in (discriminator, generator)
    )
    data = TensorDataset(images, torch.zeros(len(images), dtype=torch.long))
    loader = Watched(DataLoader(data, batch_size=64, shuffle=True, drop_last=True), clock)
    trainer = mmc.training.Trainer(
        netD=discriminator,
        netG=generator,
        optD=first,
        optG=second,
        n_dis=5,
        num_steps=100_000,
        lr_decay="linear",
        dataloader=loader,
        log_dir=str(out / "work"),
        device=device,
        save_steps=10**9,
        vis_steps=10**9,
        log_steps=10**9,
        print_steps=50,
    )
    with suppress(TimeIsUpError):
        trainer.train()
    generator.eval()
    return lambda count: (generator.generate_images(count, device=device) + 1) / 2


class Watched:
    """A data loader that ends the training when time is up."""

    def __init__(self, loader: Any, clock: Clock) -> None:
        self.loader, self.clock, self.batch_size = loader, clock, loader.batch_size

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        return self.clock.watched(iter(self.loader))


def trainer_device(network: nn.Module) -> torch.device:
    """Where a network's first parameter lies."""
    return next(network.parameters()).device


def _without_cuda(package: ModuleType) -> None:
    """Make calls of `.cuda()` and `torch.device("cuda:0")` mean the CPU."""

    class CPUTorch(ModuleType):
        device = staticmethod(lambda *_: torch.device("cpu"))

        def __getattr__(self, name: str) -> Any:
            return getattr(torch, name)

    nn.Module.cuda = lambda self, *_: self  # type: ignore[method-assign]
    Tensor.cuda = lambda self, *_, **__: self  # type: ignore[method-assign, assignment]
    package.torch = CPUTorch("torch")  # type: ignore[attr-defined]


def _as_published(name: str) -> str | None:
    """What the package says on this machine, or None where it works; afterwards it can be imported."""
    try:
        importlib.import_module(name.replace("-", "_"))
    except (AssertionError, ModuleNotFoundError) as error:
        for loaded in [word for word in sys.modules if word.startswith(name.replace("-", "_"))]:
            del sys.modules[loaded]
        _import_anyway(name.replace("-", "_"))
        return f"{type(error).__name__}: {error}"
    return None


def _import_anyway(name: str) -> None:
    """Import a package that asks for a GPU or for `torch._six`, which torch has no longer."""
    gone = ModuleType("torch._six")
    gone.PY3, gone.string_classes, gone.int_classes = True, str, int  # type: ignore[attr-defined]
    sys.modules.setdefault("torch._six", gone)
    present, torch.cuda.is_available = torch.cuda.is_available, lambda: True
    try:
        importlib.import_module(name)
    finally:
        torch.cuda.is_available = present


ENTRIES: dict[str, Callable[[Path, Path, int, Clock], Draw]] = {
    "lightweight-gan": lightweight,
    "denoising-diffusion-pytorch": diffusion,
    "torch-mimicry": mimicry,
}


def drawn(draw: Draw, count: int, minutes: float) -> np.ndarray:
    """Up to `count` images (N, R, R, 3), fewer where drawing takes longer than `minutes`."""
    images: list[np.ndarray] = []
    start = time.monotonic()
    while sum(map(len, images)) < count and (not images or time.monotonic() - start < 60 * minutes):
        with torch.inference_mode():
            made = draw(min(16, count - sum(map(len, images)))).float().clamp(0, 1)
        images.append((made * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy())
    return np.concatenate(images)


def main() -> None:
    """Train, draw, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=ENTRIES)
    parser.add_argument("images", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--draw-minutes", type=float, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    np.random.seed(0)
    prepare_torchvision()
    folder, out = given.images.resolve(), given.out.resolve()
    (out / "work").mkdir(parents=True, exist_ok=True)
    os.chdir(out / "work")  # some write where they stand
    side = Image.open(next(folder.glob("*.png"))).width
    try:
        refusal = _as_published(given.name)
        clock = Clock(given.minutes)
        draw = ENTRIES[given.name](folder, out, side, clock)
        seconds, start = clock.seconds, time.monotonic()
        images = drawn(draw, given.count, given.draw_minutes)
    except Exception as error:  # whatever it is, it is the finding
        traceback.print_exc()
        (out / "refused.json").write_text(json.dumps({"message": f"{type(error).__name__}: {error}"}))
        return
    np.save(out / "images.npy", images)
    cost = {
        "seconds": seconds, "seen": clock.seen, "images/s": clock.seen / seconds,
        "drawn/s": len(images) / (time.monotonic() - start), "refusal": refusal,
    }  # fmt: skip
    (out / "cost.json").write_text(json.dumps(cost, indent=1))


if __name__ == "__main__":
    main()
