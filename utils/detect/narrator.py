"""What a run of detection says: a line a frame, a bar on a terminal, and the sums."""

from collections.abc import Mapping

from utils.data.sources import Frame, Source
from utils.detect.detector import describe
from utils.detect.pipeline import Seen
from utils.log import LOGGER, progress, speed_line


class Narrator:
    """Tells of each frame as v6.1 does, and sums up when its block ends, by an interruption, too.

    Args:
        source: what is looked at.
        names: class names by index.
    """

    def __init__(self, source: Source, names: Mapping[int, str]) -> None:
        self.source, self.names = source, names
        self.images = self.objects = 0
        self.seconds = [0.0, 0.0, 0.0]
        self.delay = self.longest_delay = 0.0
        self.input_hw = (0, 0)

    def __enter__(self) -> "Narrator":
        count = len(self.source)
        self._bar = progress((), "detect", count, unit="img") if count > 1 else None
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
        if self.images:
            self._sum_up()

    def tell(self, seen: Seen) -> None:
        """Tell of one frame."""
        detected, frame = seen.detected, seen.frame
        self.images += 1
        self.objects += len(detected.detections)
        self.seconds = [total + one for total, one in zip(self.seconds, detected.seconds, strict=True)]
        self.input_hw = detected.input_hw
        self.delay += seen.delay
        self.longest_delay = max(self.longest_delay, seen.delay)
        height, width = detected.input_hw
        late = f", {seen.delay * 1000:.0f} ms after it was taken" if self.source.live else ""
        found = describe(detected.detections, self.names)
        LOGGER.info(f"{where(frame)}{height}x{width} {found}Done. ({detected.seconds[1]:.3f}s{late})")
        if self._bar is not None:
            self._bar.update()

    def _sum_up(self) -> None:
        milliseconds = [1000 * total / self.images for total in self.seconds]
        LOGGER.info(speed_line(milliseconds, (1, self.source.channels, *self.input_hw)))
        if self.source.live:
            mean, longest = 1000 * self.delay / self.images, 1000 * self.longest_delay
            LOGGER.info(f"Delay from taking a frame to having its results: {mean:.0f} ms, longest {longest:.0f} ms")
        skipped = f"{self.source.skipped} skipped, " if self.source.skipped else ""
        LOGGER.info(f"{_counted(self.images, 'image')}, {skipped}{_counted(self.objects, 'object')}")


def where(frame: Frame) -> str:
    """Return how the line of a frame begins (v6.1)."""
    clip = frame.clip
    if clip is None:
        of = f"/{frame.count}" if frame.count else ""
        return f"image {frame.index + 1}{of} {frame.path}: "
    if clip.live:
        return f"{clip.number - 1}: "
    # Some kinds of files promise too few frames.
    frames = f"{clip.frame}/{clip.frames}" if clip.frames >= clip.frame else f"{clip.frame}"
    return f"video {clip.number}/{clip.count} ({frames}) {frame.path}: "


def _counted(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"
