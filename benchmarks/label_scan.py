"""How long a split takes to be scanned, and to be recalled from the label cache; beside it, a loop of others' checks.

    python benchmarks/label_scan.py --images 1000 10000 100000 --repeats 3 \
        --peer-python yolov5=/work/peers/yolov5/bin/python ultralytics=/work/peers/ultralytics/bin/python

Makes folders of tiny JPEG images, each a file of its own, with label files of 1 to 11 boxes. Every measurement is a
process of its own; they take turns, and the median of each one's repetitions is printed. "scan" is all that a training
run waits for: listing the folder, checking images and labels, and writing the cache. "reload" is the same with a cache,
"one edited" with a cache and one edited label file. Memory is the peak above that before, measured by tracemalloc in a
further run. A peer is timed in a plain loop over its ``verify_image_label``, without listing and without a cache. All
files are read once before the clock starts, so that the disk plays no part.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CLASSES = 80
CLOCK_STEP = 2.5  # s; the cache does not trust label files that were written shortly before its scan
TASKS = ("scan", "reload", "one edited")


def make_images(folder: Path, count: int) -> None:
    """Write ``count`` images of 40 x 32 px and their labels."""
    from PIL import Image

    generator = random.Random(0)
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    Image.frombytes("RGB", (40, 32), generator.randbytes(40 * 32 * 3)).save(folder / "seed.jpg")
    content = (folder / "seed.jpg").read_bytes()
    for index in range(count):
        (folder / f"images/{index:012d}.jpg").write_bytes(content)
        edit(folder / f"labels/{index:012d}.txt", generator)
    time.sleep(CLOCK_STEP)


def edit(label: Path, generator: random.Random) -> None:
    """Write other boxes into a label file."""
    rows = [[generator.uniform(0.1, 0.4) for _ in range(4)] for _ in range(generator.randint(1, 11))]
    label.write_text(
        "".join(f"{generator.randrange(CLASSES)} {' '.join(f'{value:.6f}' for value in row)}\n" for row in rows)
    )


def ours(folder: Path) -> Callable[[], int]:
    """Return what ``load_samples`` does with a split."""
    sys.path.insert(0, str(ROOT))
    from utils.data.cache import cached_scan
    from utils.data.listing import list_images

    def work() -> int:
        entries = [folder / "images"]
        return len(cached_scan(list_images(entries), entries, "scanning")[0].samples)

    return work


def peer(name: str, folder: Path) -> Callable[[], int]:
    """Return a loop over what the package ``name`` does with each image."""
    if name == "yolov5":
        from yolov5.utils.dataloaders import verify_image_label

        rest: tuple[object, ...] = ("",)
    else:
        from ultralytics.data.utils import verify_image_label

        rest = ("", False, CLASSES, 0, 0, False)  # prefix, key points, classes, their number and size, single class
    images = sorted(str(path) for path in (folder / "images").iterdir())
    pairs = [(image, f"{image[:-4].replace('/images/', '/labels/')}.txt") for image in images]
    return lambda: sum(verify_image_label((*pair, *rest))[0] is not None for pair in pairs)


def measure(name: str, folder: Path, memory: bool) -> dict[str, float]:
    """Return seconds, or MB at most, of one pass over the images of ``folder``."""
    work = ours(folder) if name in TASKS else peer(name, folder)
    for path in (*(folder / "images").iterdir(), *(folder / "labels").iterdir()):
        path.read_bytes()
    if memory:
        tracemalloc.start()
    start = time.perf_counter()
    count = work()
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "megabytes": tracemalloc.get_traced_memory()[1] / 1e6 if memory else 0, "count": count}


def run_apart(python: str, name: str, folder: Path, memory: bool = False) -> float:
    """Measure in a process of its own; return seconds or MB."""
    label = folder / "labels" / f"{0:012d}.txt"
    if name == "scan":
        for cache in folder.glob("*.cache"):
            cache.unlink()
    elif name == "one edited":
        edit(label, random.Random(time.time_ns()))
    words = [python, __file__, "--work", name, "--folder", str(folder), *(["--memory"] if memory else [])]
    environment = {key: value for key, value in os.environ.items() if key != "YOLOV5_CACHE_DIR"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    found = json.loads(done.stdout.splitlines()[-1])
    if found["count"] != len(list((folder / "images").iterdir())):
        raise SystemExit(f"{name} accepted {found['count']} images only")
    if name == "one edited":  # so that the label file is an old one again for what is measured next
        time.sleep(CLOCK_STEP)
        run_apart(python, "reload", folder)
    return float(found["megabytes" if memory else "seconds"])


def compare(folder: Path, count: int, peers: dict[str, str], repeats: int) -> None:
    """Print the lines of the table for ``count`` images."""
    make_images(folder, count)
    pythons = {**dict.fromkeys(TASKS, sys.executable), **peers}
    seconds: dict[str, list[float]] = {name: [] for name in pythons}
    for _ in range(repeats):
        for name, python in pythons.items():
            seconds[name].append(run_apart(python, name, folder))
    megabytes = {name: run_apart(sys.executable, name, folder, memory=True) for name in TASKS}
    scan = statistics.median(seconds["scan"])
    for name, values in seconds.items():
        median = statistics.median(values)
        memory = f"{megabytes[name]:.1f}" if name in megabytes else ""
        ratio = f"{median / scan:.2f}" if name in peers else ""
        print(f"| {count:,} | {name} | {median:.3f} | {median / count * 1e6:.1f} | {memory} | {ratio} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peer-python", nargs="*", default=[], metavar="NAME=PYTHON", help="yolov5 or ultralytics")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        print(json.dumps(measure(options.work, options.folder, options.memory)))
        return
    peers = dict(pair.split("=", 1) for pair in options.peer_python)
    print("| images | what | s | µs an image | MB | times our scan |\n|-:|-|-:|-:|-:|-:|")
    with tempfile.TemporaryDirectory() as folder:
        for count in options.images:
            compare(Path(folder) / str(count), count, peers, options.repeats)


if __name__ == "__main__":
    main()
