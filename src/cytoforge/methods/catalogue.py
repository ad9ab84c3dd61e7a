"""Every method by the word that names it on the command line."""

from __future__ import annotations

from typing import Any

from cytoforge.core.batch import DataShape
from cytoforge.core.errors import ConfigError
from cytoforge.core.method import Method
from cytoforge.core.settings import checked, suggestion
from cytoforge.methods.auto import Auto
from cytoforge.methods.cgan import CGAN, DenseCGAN
from cytoforge.methods.cvae import CVAE, SourceCVAE
from cytoforge.methods.cyclegan import CycleGAN
from cytoforge.methods.diffusion import Diffusion
from cytoforge.methods.ebgan import EBGAN
from cytoforge.methods.gan import GAN
from cytoforge.methods.infogan import InfoGAN
from cytoforge.methods.pix2pix import Pix2Pix
from cytoforge.methods.syncgan import SynCGAN
from cytoforge.methods.text_to_image import TextToImage
from cytoforge.methods.wgan_gp import WGANGP

METHODS: dict[str, type[Method]] = {
    method.name: method
    for method in (
        Auto,
        WGANGP,
        GAN,
        EBGAN,
        InfoGAN,
        DenseCGAN,
        CGAN,
        SourceCVAE,
        CVAE,
        Pix2Pix,
        SynCGAN,
        CycleGAN,
        Diffusion,
        TextToImage,
    )
}


def method_type(name: str) -> type[Method]:
    """The class of a method.

    Raises:
        ConfigError: there is no method of that name.
    """
    if name in METHODS:
        return METHODS[name]
    raise ConfigError(
        f'there is no method "{name}".{suggestion(name, METHODS)} Methods: {", ".join(METHODS)}.'
    )


def rebuild(config: dict[str, Any]) -> Method:
    """The untrained method that a run's config.json describes.

    Args:
        config: content of config.json.

    Raises:
        ConfigError: its method or settings are unknown to this version.
    """
    kind = method_type(config["method"])
    shape = DataShape(config["preparation"]["resolution"], tuple(config["classes"]), config["mask_channels"])
    return kind(checked(kind.config_type, config["settings"], "config.json, settings"), shape)
