"""How a network that knows no classes is given one: planes of its input, or a network for each class."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot


def class_planes(labels: Tensor, classes: int, resolution: int) -> Tensor:
    """Labels (N,) as planes (N, classes, R, R): 1 in the plane of the class, 0 in the others.

    Example:
        >>> class_planes(torch.tensor([1]), 3, 2)[0, :, 0, 0].tolist()
        [0.0, 1.0, 0.0]
    """
    planes = one_hot(labels, classes).float()
    return planes[:, :, None, None].expand(-1, -1, resolution, resolution)


class WithPlanes(nn.Module):
    """A network on pictures that also gets the class, as planes.

    Args:
        network: pictures (N, C + classes, R, R) -> anything.
        classes: number of classes.
    """

    def __init__(self, network: nn.Module, classes: int) -> None:
        super().__init__()
        self.network, self.classes = network, classes

    def forward(self, pictures: Tensor, labels: Tensor) -> Tensor:
        """Pictures (N, C, R, R) and labels (N,)."""
        planes = class_planes(labels, self.classes, pictures.shape[-1]).to(pictures)
        output: Tensor = self.network(torch.cat([pictures, planes], dim=1))
        return output


class PerClass(nn.Module):
    """One network for each class; each picture goes to the network of its class.

    Args:
        build: makes one network of one class: pictures (N, ...) and labels (N,), all 0 -> (N, ...).
        classes: number of classes.
    """

    def __init__(self, build: Callable[[], nn.Module], classes: int) -> None:
        super().__init__()
        self.networks = nn.ModuleList(build() for _ in range(classes))

    def forward(self, pictures: Tensor, labels: Tensor) -> Tensor:
        """Pictures (or noise) (N, ...) and labels (N,).

        A class that is missing in the batch is run on one picture and counted zero times, so that its slope
        is 0 and not absent: several processes would wait for it. In evaluation each network that occurs gets
        the whole batch, so that the bits of a picture do not depend on the classes of the others.
        """
        if not self.training:
            return self._evaluated(pictures, labels)
        outputs: list[Tensor] = []
        rows: list[Tensor] = []
        unused = pictures.new_zeros(())
        for label, network in enumerate(self.networks):
            own = torch.nonzero(labels == label)[:, 0]
            if len(own):
                outputs.append(network(pictures[own], torch.zeros_like(own)))
                rows.append(own)
            else:
                unused = unused + 0 * network(pictures[:1], torch.zeros_like(labels[:1])).sum()
        order = torch.cat(rows).argsort()
        return torch.cat(outputs)[order] + unused

    def _evaluated(self, pictures: Tensor, labels: Tensor) -> Tensor:
        present = sorted(set(labels.tolist()))
        made = [self.networks[label](pictures, torch.zeros_like(labels)) for label in present]
        output: Tensor = made[0].clone()
        for label, other in zip(present[1:], made[1:], strict=True):
            output[labels == label] = other[labels == label]
        return output
