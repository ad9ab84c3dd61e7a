"""Generated images of earlier steps, shown to a discriminator again so that it does not forget them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def emptied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same weights by name, with zeros for what an `ImageBuffer` holds.

    Example:
        >>> names = ["b/images", "b/filled", "g/filled"]
        >>> {name: int(tensor) for name, tensor in emptied(dict.fromkeys(names, torch.tensor(7))).items()}
        {'b/images': 0, 'b/filled': 0, 'g/filled': 7}
    """
    places = {name.rpartition("/")[0] for name in tensors}
    fields = ("images", "filled")
    buffers = {
        f"{place}/{field}"
        for place in places
        if all(f"{place}/{each}" in tensors for each in fields)
        for field in fields
    }
    return {name: torch.zeros_like(tensor) if name in buffers else tensor for name, tensor in tensors.items()}


class ImageBuffer(nn.Module):
    """Fifty or so generated images; a module without parameters, so that checkpoints hold them.

    Args:
        size: most images kept; 0 keeps none.
        resolution: side of the images, in pixels.

    Reference:
        Shrivastava et al., Learning from simulated and unsupervised images, 2017, section 2.3. https://arxiv.org/abs/1612.07828
        Zhu et al., CycleGAN, 2017, section 4: the 50 latest images.
    """

    images: Tensor
    filled: Tensor

    def __init__(self, size: int, resolution: int) -> None:
        super().__init__()
        self.register_buffer("images", torch.zeros(size, 3, resolution, resolution))
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def exchange(self, images: Tensor, draws: Tensor) -> Tensor:
        """Put new images in and take as many out, new or old.

        Until the buffer is full, the new ones come back. Then each new image comes back with probability 1/2;
        otherwise it takes the place of an older one, which comes back instead.

        Args:
            images: (N, 3, H, W).
            draws: (N, 2) uniform in [0, 1), on the CPU: whether to exchange, and with which.

        Returns:
            (N, 3, H, W), without gradient.
        """
        size, filled = len(self.images), int(self.filled)
        shown = images.detach().float().clone()
        for position, (chance, place) in enumerate(draws.tolist()):
            if filled < size:
                self.images[filled] = shown[position]
                filled += 1
            elif size and chance < 0.5:
                old = int(place * size)
                self.images[old], shown[position] = shown[position].clone(), self.images[old].clone()
        self.filled.fill_(filled)
        return shown
