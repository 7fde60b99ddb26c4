"""What the tests of augmentations share."""

import numpy as np

from utils.data.mosaic import Tile
from utils.data.scene import Scene


def scene_of(image, labels=(), segments=()):
    return Scene(image, np.array(labels, np.float32).reshape(-1, 5), list(segments))


def tile_of(image, labels=(), segments=()):
    scene = scene_of(image, labels, segments)
    return Tile(scene.size_hw, scene.labels, scene.segments, lambda: image)


def assert_same_picture(ours, reference):
    """Equal up to one grey level on 99 % of pixels: the reference was made with another OpenCV."""
    assert ours.shape == reference.shape
    difference = np.abs(ours.astype(int) - reference.astype(int))
    assert (difference <= 1).mean() >= 0.99
