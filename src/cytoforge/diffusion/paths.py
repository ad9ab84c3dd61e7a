"""Ways from images to noise, and what a network learns on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

Network = Callable[[Tensor, Tensor], Tensor]
"""Noisy images (N, 3, H, W) and levels (N,) -> raw output (N, 3, H, W)."""


class NoisePath(Protocol):
    """A way from images to noise: level 0 is the image, the highest level is noise alone.

    The straight line from a noisy image through the denoised one is the direction in which the level falls:
    d x / d level = (x - D(x, level)) / level, for every path of this file.
    """

    def levels(self, normal: Tensor) -> Tensor:
        """Levels to train at (N,) from standard normal numbers (N,)."""
        ...

    def disturb(self, images: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
        """Images (N, 3, H, W) with their share of noise (N, 3, H, W) at levels (N,)."""
        ...

    def denoise(self, network: Network, noisy: Tensor, levels: Tensor) -> Tensor:
        """The images that the network believes in: (N, 3, H, W)."""
        ...

    def weight(self, levels: Tensor) -> Tensor:
        """Weight (N,) of the squared error of denoised images at levels (N,)."""
        ...

    def schedule(self, steps: int) -> Tensor:
        """Levels of a solver, from noise to 0: (steps + 1,) float32."""
        ...


@dataclass(frozen=True)
class RectifiedFlow:
    """Straight line: x_t = (1 - t) x_0 + t e; the network answers with image or slope, the slope is judged.

    A small network has no room to carry noise from its input to its output, which answering with the slope
    demands; images of cells are far simpler than noise. Large pretrained models answer with the slope.

    Attributes:
        mean: of the logit of the times to train at.
        spread: standard deviation of that logit.
        shift: above 1, solvers take more of their steps near the noise.
        answer: what the network's output is.

    Reference:
        Liu, Gong and Liu, Flow straight and fast, 2022, equation 1. https://arxiv.org/abs/2209.03003
        Esser et al., Scaling rectified flow transformers, 2024, equations 19 (times) and 23 (shift).
        https://arxiv.org/abs/2403.03206
        Li and He, Back to basics: let denoising generative models denoise, 2025 (answer with the image).
        https://arxiv.org/abs/2511.13720
    """

    mean: float = 0.0
    spread: float = 1.0
    shift: float = 1.0
    answer: Literal["image", "slope"] = "image"

    def levels(self, normal: Tensor) -> Tensor:
        """Logit-normal times in (0, 1).

        Example:
            >>> RectifiedFlow().levels(torch.tensor([0.0]))
            tensor([0.5000])
        """
        return torch.sigmoid(self.mean + self.spread * normal)

    def disturb(self, images: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
        """(1 - t) x + t e.

        Example:
            >>> ones = torch.ones(1, 1, 1, 1)
            >>> float(RectifiedFlow().disturb(ones, -ones, torch.tensor([0.25])))
            0.5
        """
        return torch.lerp(images, noise, _column(levels))

    def denoise(self, network: Network, noisy: Tensor, levels: Tensor) -> Tensor:
        """The answer as it is, or x_t - t times it."""
        answer = network(noisy, levels).float()
        return answer if self.answer == "image" else noisy - _column(levels) * answer

    def weight(self, levels: Tensor) -> Tensor:
        """1 / t^2, the squared error of the slope; no more than at t = 1/20.

        Example:
            >>> RectifiedFlow().weight(torch.tensor([0.5]))
            tensor([4.])
        """
        return levels.clamp(min=0.05).square().reciprocal()

    def schedule(self, steps: int) -> Tensor:
        """Times from 1 to 0, evenly where `shift` is 1.

        Example:
            >>> RectifiedFlow().schedule(4)
            tensor([1.0000, 0.7500, 0.5000, 0.2500, 0.0000])
        """
        even = torch.linspace(1, 0, steps + 1)
        return self.shift * even / (1 + (self.shift - 1) * even)


@dataclass(frozen=True)
class Karras:
    """Growing noise: x = x_0 + sigma e; the network's input, target and loss are kept at unit variance.

    Attributes:
        mean: of the logarithm of the sigmas to train at.
        spread: standard deviation of that logarithm.
        data: standard deviation of the images' pixels.
        lowest: sigma of a solver's last step before 0.
        highest: sigma of its first.
        rho: above 1, solvers take more of their steps near the image.

    Reference:
        Karras et al., Elucidating the design space of diffusion-based generative models (EDM), 2022, table 1,
        equations 5 (schedule) and 7 (preconditioning). https://arxiv.org/abs/2206.00364
    """

    mean: float = -1.2
    spread: float = 1.2
    data: float = 0.5
    lowest: float = 0.002
    highest: float = 80.0
    rho: float = 7.0

    def levels(self, normal: Tensor) -> Tensor:
        """Log-normal sigmas.

        Example:
            >>> Karras(mean=0.0).levels(torch.tensor([0.0]))
            tensor([1.])
        """
        return torch.exp(self.mean + self.spread * normal)

    def disturb(self, images: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
        """Images plus sigma times noise."""
        return images + _column(levels) * noise

    def denoise(self, network: Network, noisy: Tensor, levels: Tensor) -> Tensor:
        """c_skip x + c_out F(c_in x, ln(sigma) / 4).

        Example:
            >>> one = torch.ones(1, 1, 1, 1)
            >>> nothing = lambda images, levels: torch.zeros_like(images)
            >>> float(Karras().denoise(nothing, one * 2, torch.tensor([0.5])).round())  # half is noise
            1.0
        """
        sigma = _column(levels)
        length = (sigma.square() + self.data**2).rsqrt()
        skip, out = (self.data * length).square(), sigma * self.data * length
        return skip * noisy + out * network(length * noisy, levels.log() / 4).float()

    def weight(self, levels: Tensor) -> Tensor:
        """(sigma^2 + data^2) / (sigma data)^2.

        Example:
            >>> Karras().weight(torch.tensor([0.5]))
            tensor([8.])
        """
        return (levels.square() + self.data**2) / (levels * self.data).square()

    def schedule(self, steps: int) -> Tensor:
        """Sigmas from `highest` to `lowest`, then 0.

        Example:
            >>> Karras().schedule(2)
            tensor([8.0000e+01, 2.0000e-03, 0.0000e+00])
        """
        ends = torch.tensor([self.highest, self.lowest], dtype=torch.float64) ** (1 / self.rho)
        ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
        sigmas = (ends[0] + ramp * (ends[1] - ends[0])) ** self.rho
        return torch.cat([sigmas, sigmas.new_zeros(1)]).float()


@dataclass(frozen=True)
class VariancePreserving:
    """Noise that grows in fixed small steps, x = sqrt(a) x_0 + sqrt(1 - a) e, seen as x_0 + sigma e.

    Dividing by sqrt(a) makes it the path of `Karras` with sigma = sqrt((1 - a) / a), known at the steps only;
    networks of this kind want to hear the step's number, which is interpolated in the logarithm of sigma.

    Attributes:
        alpha_bar: (steps,) what is left of the image's variance after each step, falling; where nothing is
            left, 2^-24 is taken, as in diffusers.
        answer: what the network's output is: the noise e, or the "velocity" sqrt(a) e - sqrt(1 - a) x_0.

    Reference:
        Ho, Jain and Abbeel, 2020, equation 4. https://arxiv.org/abs/2006.11239
        Salimans and Ho, Progressive distillation, 2022, appendix D (velocity). https://arxiv.org/abs/2202.00512
        Karras et al., EDM, 2022, table 1, column iDDPM (as x_0 + sigma e). https://arxiv.org/abs/2206.00364
    """

    alpha_bar: Tensor
    answer: Literal["noise", "velocity"] = "noise"

    @property
    def sigmas(self) -> Tensor:
        """(steps,) growing."""
        left = self.alpha_bar.clamp(min=2**-24)
        return ((1 - left) / left).sqrt().float()

    def levels(self, normal: Tensor) -> Tensor:
        """Sigmas of steps that are all equally likely."""
        share = torch.special.ndtr(normal.cpu())
        steps = (share * len(self.alpha_bar)).long().clamp(max=len(self.alpha_bar) - 1)
        return self.sigmas[steps].to(normal.device)

    def disturb(self, images: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
        """Images plus sigma times noise."""
        return images + _column(levels) * noise

    def denoise(self, network: Network, noisy: Tensor, levels: Tensor) -> Tensor:
        """Noisy - sigma e; with velocity v: noisy / (sigma^2 + 1) - sigma v / sqrt(sigma^2 + 1)."""
        sigma = _column(levels)
        length = (sigma.square() + 1).rsqrt()
        answer = network(length * noisy, self.steps(levels)).float()
        if self.answer == "noise":
            return noisy - sigma * answer
        return length.square() * noisy - sigma * length * answer

    def steps(self, levels: Tensor) -> Tensor:
        """Number of the step (N,) with noise level (N,), with fractions.

        Example:
            >>> path = VariancePreserving(torch.tensor([0.9, 0.5, 0.1]))
            >>> path.steps(path.sigmas)
            tensor([0., 1., 2.])
        """
        table = self.sigmas.log().to(levels.device)
        wanted = levels.log()
        above = torch.searchsorted(table, wanted).clamp(1, len(table) - 1)
        low, high = table[above - 1], table[above]
        return (above - 1 + (wanted - low) / (high - low)).clamp(0, len(table) - 1)

    def weight(self, levels: Tensor) -> Tensor:
        """1 / sigma^2, the squared error of the noise, or (sigma^2 + 1) / sigma^2, that of the velocity.

        Example:
            >>> VariancePreserving(torch.tensor([0.5])).weight(torch.tensor([0.5]))
            tensor([4.])
            >>> VariancePreserving(torch.tensor([0.5]), "velocity").weight(torch.tensor([0.5]))
            tensor([5.])
        """
        noise = levels.square().reciprocal()
        return noise if self.answer == "noise" else noise + 1

    def schedule(self, steps: int) -> Tensor:
        """As `Karras.schedule` between the largest and the smallest sigma that the network knows."""
        sigmas = self.sigmas
        return Karras(lowest=float(sigmas[0]), highest=float(sigmas[-1])).schedule(steps)


def denoising_error(
    path: NoisePath, network: Network, images: Tensor, noise: Tensor, levels: Tensor
) -> Tensor:
    """Weighted squared error of denoised images: what a diffusion model or flow is trained by.

    Args:
        path: from images to noise.
        network: noisy images and levels -> output.
        images: (N, 3, H, W) in [-1, 1].
        noise: (N, 3, H, W) standard normal.
        levels: (N,)

    Returns:
        (N,) mean over pixels; about 1 for a network that answers 0.

    Example:
        >>> still = torch.zeros(1, 1, 1, 1)
        >>> off = lambda noisy, levels: torch.full_like(noisy, 0.5)  # the truth is 0
        >>> denoising_error(RectifiedFlow(), off, still, still + 2, torch.tensor([0.5]))
        tensor([1.])

    Reference:
        Karras et al., EDM, 2022, equation 8. https://arxiv.org/abs/2206.00364
    """
    denoised = path.denoise(network, path.disturb(images, noise, levels), levels)
    return path.weight(levels) * (denoised - images).square().mean(dim=(1, 2, 3))


def _column(levels: Tensor) -> Tensor:
    return levels[:, None, None, None]
