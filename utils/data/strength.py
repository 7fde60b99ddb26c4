"""How strongly training images are changed."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Augmentation:
    """How strongly training images are changed; the names and meanings of v6.1's hyperparameters.

    ``hsv_*``, ``translate`` and ``scale`` are fractions, ``degrees`` and ``shear`` degrees, ``flipud``, ``fliplr``,
    ``mosaic``, ``mixup`` and ``cutout`` probabilities. ``copy_paste`` is the fraction of outlined objects, ``mosaic9``
    the fraction of mosaics that have nine tiles instead of four, ``albumentations`` the probability that the
    optional transforms are tried at all.
    """

    hsv_h: float = 0.0
    hsv_s: float = 0.0
    hsv_v: float = 0.0
    degrees: float = 0.0
    translate: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    perspective: float = 0.0
    flipud: float = 0.0
    fliplr: float = 0.0
    mosaic: float = 0.0
    mixup: float = 0.0
    copy_paste: float = 0.0
    mosaic9: float = 0.0
    cutout: float = 0.0
    albumentations: float = 0.0
