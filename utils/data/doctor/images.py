"""Images: sizes that are odd, files that cannot be decoded, copies within splits and across them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from utils.data.doctor.copies import find_copies
from utils.data.doctor.findings import MOST_EXAMPLES, Example, Finding, Picture
from utils.data.doctor.pictures import read_prints
from utils.data.doctor.split import Split
from utils.data.pixels import CONVERTED

THINNEST = 4.0  # long side by short side
SMALLEST, LARGEST = 64, 8192  # px of the long side
SHOWN_COPIES = 3  # pictures of a group


def size_findings(split: Split) -> list[Finding]:
    """Find images of odd shape or size. Reads no file."""
    sizes = split.samples.sizes_hw
    longer, shorter = sizes.max(1, initial=0), sizes.min(1, initial=np.iinfo(np.int32).max)
    ratio = longer / np.maximum(shorter, 1)
    odd = np.flatnonzero((ratio >= THINNEST) | (longer < SMALLEST) | (longer > LARGEST))
    odd = odd[np.argsort(-ratio[odd], kind="stable")]
    return split.found_images("image-odd", odd, lambda index: f"{sizes[index][1]} x {sizes[index][0]} px")


def image_findings(splits: Sequence[Split], channels: int) -> list[Finding]:
    """Decode all usable images and find broken ones and copies.

    Args:
        splits: of the data set, each once.
        channels: of the data set.
    """
    pictures = _distinct_pictures(splits)
    sizes = [split.samples.sizes_hw[index] for split, index in pictures]
    images = [split.samples.image(index) for split, index in pictures]
    fault = "cannot be decoded" if channels in CONVERTED else f"has not the {channels} channels of 'ch', or is damaged"
    prints = read_prints(images, np.array(sizes, np.int32).reshape(-1, 2), channels)
    found = []
    for split in splits:
        of_split = [position for position, (owner, _) in enumerate(pictures) if owner is split]
        broken = np.array([pictures[position][1] for position in of_split if not prints.readable[position]], np.int64)
        found += split.found_images("image-corrupt", broken, lambda _: fault)
    exact, near = find_copies(prints)
    return [
        *found,
        *_group_findings(exact, pictures, "leak", "image-twice"),
        *_group_findings(near, pictures, "leak-near", "image-near"),
    ]


def _distinct_pictures(splits: Sequence[Split]) -> list[tuple[Split, int]]:
    """Return split and index of every image; a file in several splits counts for the first only."""
    seen: dict[str, tuple[Split, int]] = {}
    for split in splits:
        for index, image in enumerate(split.samples.images):
            seen.setdefault(image, (split, index))
    return list(seen.values())


def _group_findings(
    groups: Sequence[Sequence[int]], pictures: Sequence[tuple[Split, int]], across: str, within: str
) -> list[Finding]:
    """Return findings about groups of copies: ``across`` for those in several splits, ``within`` for the others."""
    counts: dict[tuple[str, str], int] = {}
    examples: dict[tuple[str, str], list[Example]] = {}
    for group in groups:
        splits = list(dict.fromkeys(pictures[position][0].name for position in group))
        key = (across if len(splits) > 1 else within, ", ".join(splits))
        extra = [position for position in group if pictures[position][0].name != splits[0]]
        counts[key] = counts.get(key, 0) + (len(extra) if len(splits) > 1 else len(group) - 1)
        if len(examples.setdefault(key, [])) < MOST_EXAMPLES:
            examples[key].append(_copy_example(_shown(group, extra), pictures))
    return [Finding(kind, splits, counts[kind, splits], examples[kind, splits]) for kind, splits in counts]


def _shown(group: Sequence[int], extra: Sequence[int]) -> list[int]:
    """Return the members of a group to show, one of each split at least."""
    return list(dict.fromkeys([group[0], *extra[:1], *group]))[:SHOWN_COPIES]


def _copy_example(members: Sequence[int], pictures: Sequence[tuple[Split, int]]) -> Example:
    shown: list[Picture] = [pictures[member][0].picture(pictures[member][1]) for member in members]
    copies = ", ".join(_short(picture) for picture in shown[1:])
    return Example(shown[0].image, f"= {copies}", pictures=tuple(shown))


def _short(picture: Picture) -> str:
    return f"{picture.split}: {Path(*picture.image.parts[-2:])}"
