"""Attention layers that users compare with NAM: one paper, one small file each; importing them registers them.

All are built as ``Class(channels, **options)`` and keep the shape of their (B, C, H, W) input, so a model YAML names
them like NAMAttention: ``[-1, 1, SE, [1024, {reduction: 8}]]``.
"""

from models.attention import bam, cbam, controls, coordatt, eca, gam, se, simam, triplet

__all__ = ["bam", "cbam", "controls", "coordatt", "eca", "gam", "se", "simam", "triplet"]
