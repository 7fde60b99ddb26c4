"""Cameras and streams, several at once: always the newest frame of each."""

import threading
from collections.abc import Iterator
from pathlib import Path

from utils.data.sources.capture import check_channels
from utils.data.sources.frames import Frame
from utils.data.sources.naming import Names, address_stem, frame_name, masked
from utils.data.sources.stream import Patience, Picture, Stream
from utils.data.sources.web import is_camera
from utils.errors import UserError

TICK = 0.5  # s after which the wait for a frame looks up: on Windows Ctrl-C is not heard before
FAREWELL = 1.0  # s that a thread may take to end; one that waits for its server ends when that answers, or is late


class _Exchange:
    """Where the threads of the streams leave their newest picture, and the consumer fetches it."""

    def __init__(self, streams: int) -> None:
        self.stopped = threading.Event()
        self._changed = threading.Condition()
        self._newest: dict[int, Picture] = {}  # in the order in which streams began to wait: fair
        self._running = streams

    def put(self, picture: Picture) -> None:
        """Leave a picture, in the place of an older one of the same stream."""
        with self._changed:
            self._newest[picture.clip.number] = picture
            self._changed.notify()

    def leave(self) -> None:
        """Tell that a stream has ended."""
        with self._changed:
            self._running -= 1
            self._changed.notify()

    def get(self) -> Picture | None:
        """Return the next picture, waiting for it; None when all streams have ended or everything is stopped."""
        with self._changed:
            while not self.stopped.is_set():
                if self._newest:
                    return self._newest.pop(next(iter(self._newest)))
                if not self._running:
                    return None
                self._changed.wait(TICK)
        return None

    def stop(self) -> None:
        """Have threads and consumer end."""
        self.stopped.set()
        with self._changed:
            self._changed.notify_all()


class StreamSource:
    """The newest frames of cameras and streams, as they come, in turn when several wait.

    Each stream has a thread that reads all it gets and keeps the newest. One that breaks off is connected anew; one
    that stays silent is given up with a warning, while the others go on.

    Attributes:
        channels, live, streams, skipped: see ``Source``; a stream that never gave a frame counts as skipped.
    """

    live = True

    def __init__(self, addresses: list[str], vid_stride: int = 1, patience: Patience | None = None) -> None:
        """Take the addresses of streams and the numbers of cameras."""
        self.channels, self.skipped = 3, 0
        self.addresses, self.streams = addresses, len(addresses)
        self._vid_stride, self._patience = vid_stride, patience or Patience()
        self._exchange = _Exchange(len(addresses))
        self._counting = threading.Lock()
        self._threads: list[threading.Thread] = []

    def __len__(self) -> int:
        return 0

    def __iter__(self) -> Iterator[Frame]:
        check_channels(self.channels, f"'{masked(self.addresses[0])}'")
        self._start()
        index = 0
        try:
            while picture := self._exchange.get():
                name = frame_name(picture.clip.name, picture.clip.frame)
                path = Path(masked(picture.address))
                yield Frame(path, name, picture.image, index, 0, picture.clip, picture.captured)
                index += 1
        finally:
            stopped = self._exchange.stopped.is_set()
            self.close()
        if not index and not stopped:
            raise UserError(f"--source: {self._nothing()}")

    def close(self) -> None:
        """End the threads; an iteration that waits for a frame ends, too."""
        self._exchange.stop()
        for thread in self._threads:
            thread.join(FAREWELL)

    def _nothing(self) -> str:
        if self.streams > 1:
            return f"none of the {self.streams} streams gives a frame; are they there and running?"
        only = masked(self.addresses[0])
        if is_camera(only):
            return f"camera {only} does not give a frame; is it there, and in use by no other program?"
        return f"'{only}' does not give a frame; is it there and running, with this address and password?"

    def _start(self) -> None:
        names = Names()
        for number, address in enumerate(self.addresses, 1):
            stem = f"camera{address}" if is_camera(address) else address_stem(address)
            name = names.of_clip(stem)
            stream = Stream(address, name, number, self.streams, self.channels, self._vid_stride, self._patience)
            thread = threading.Thread(target=self._run, args=(stream,), name=f"stream {name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run(self, stream: Stream) -> None:
        try:
            stream.run(self._exchange.put, self._exchange.stopped)
        finally:
            if not stream.frame and not self._exchange.stopped.is_set():
                with self._counting:
                    self.skipped += 1
            self._exchange.leave()
