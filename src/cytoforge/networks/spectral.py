"""Spectral normalisation of a whole network."""

from __future__ import annotations

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm


def spectrally_normalised(network: nn.Module) -> nn.Module:
    """The network, each of whose convolutions, linear layers and embeddings now stretches by 1 at most.

    A score then changes by about as much as the image, without a penalty. Each forward pass in training
    improves the estimate of the largest singular value by one power iteration; the vectors of that estimate
    are buffers, so that a resumed training goes on with them.

    Reference:
        Miyato et al., Spectral normalization for GANs, 2018, algorithm 1. https://arxiv.org/abs/1802.05957
    """
    for module in list(network.modules()):
        if isinstance(module, nn.Conv2d | nn.Linear | nn.Embedding):
            spectral_norm(module)
    return network
