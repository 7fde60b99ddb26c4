"""Kill training with SIGKILL at random times, resume it, and compare with the run that was left alone.

    python benchmarks/kill_resume.py --kills 5 --workers 0 2

Each kill hits a run of its own, with its loader processes, at a time drawn evenly over the length of an undisturbed
one; one more run is killed again and again, after each resumption. Prints a Markdown table. POSIX only.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from utils.checkpoint import read_checkpoint  # noqa: E402
from utils.data.synthetic import CLASS_NAMES, generate_shapes10  # noqa: E402
from utils.errors import UserError  # noqa: E402

SETTINGS = ["--imgsz", "64", "--batch-size", "4", "--device", "cpu", "--weights", "", "--warmup", "4", "--noplots"]
OVER = -1  # epoch of a finished checkpoint


@dataclass
class Kill:
    """A run that was killed and then went on to its end.

    Attributes:
        folder: of the run.
        times: seconds after the start of each process at which it was killed.
        reached: what the run had come to then, for each kill.
        leftovers: temporary files that lay there after each kill.
    """

    folder: Path
    times: list[float] = field(default_factory=list)
    reached: list[str] = field(default_factory=list)
    leftovers: list[int] = field(default_factory=list)


def start(words: list[str], log: Path) -> "subprocess.Popen[bytes]":
    with log.open("ab") as output:
        line = [sys.executable, str(ROOT / "train.py"), *words]
        return subprocess.Popen(line, stdout=output, stderr=output, start_new_session=True)


def run_to_end(words: list[str], folder: Path) -> tuple[Path, float]:
    """Run train.py with ``words``; return ``folder``, where it trains, and the seconds it took."""
    log, begin = folder.with_suffix(".log"), time.perf_counter()
    code = start(words, log).wait()
    if code:
        raise RuntimeError(f"train.py ended with {code}: {log.read_text()[-2000:]}")
    return folder, time.perf_counter() - begin


def kill_run(words: list[str], project: Path, name: str, *times: float) -> Kill:
    """Start a run, kill and resume it at each of ``times`` in turn, and let it end.

    Args:
        words: options of train.py, without those of the folder.
        project: folder of runs.
        name: of this run.
        times: seconds after the start of each process; one that is over sooner is not killed.
    """
    kill = Kill(project / name)
    log = kill.folder.with_suffix(".log")
    new = [*words, "--project", str(project), "--name", name, "--exist-ok"]
    for seconds in times:
        process = start(command_for(kill.folder) or new, log)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        kill.times.append(seconds)
        kill.reached.append(where(kill.folder, log))
        kill.leftovers.append(len(leftovers(kill.folder)))
    if not is_finished(kill.folder):
        run_to_end(command_for(kill.folder) or new, kill.folder)
    return kill


def command_for(folder: Path) -> list[str]:
    """Return the options that resume the run; none while there is no checkpoint."""
    return ["--resume", str(folder)] if (folder / "weights/last.pt").exists() else []


def is_finished(folder: Path) -> bool:
    last = folder / "weights/last.pt"
    return last.exists() and read_checkpoint(last).epoch == OVER and read_checkpoint(last).training is None


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.glob("**/.*") if path.is_file()]


def where(folder: Path, log: Path) -> str:
    """Describe how far a run has come."""
    last = folder / "weights/last.pt"
    if not last.exists():
        return "no checkpoint yet" if folder.exists() else "no folder yet"
    if is_finished(folder):
        return "trained, measuring"
    done = read_checkpoint(last).epoch + 1
    csv = folder / "results.csv"
    rows = len(csv.read_text().splitlines()) - 1 if csv.exists() else 0
    return f"{done} epochs" + (f", row {rows} without checkpoint" if rows > done else "")


def same_outcome(folder: Path, whole: Path) -> bool:
    """Tell whether results.csv and the tensors of last.pt and best.pt are those of ``whole``, bit for bit."""
    if (folder / "results.csv").read_bytes() != (whole / "results.csv").read_bytes():
        return False
    for name in ("last.pt", "best.pt"):
        one, two = (read_checkpoint(path / "weights" / name).state for path in (folder, whole))
        if one.keys() != two.keys() or not all(torch.equal(one[key], two[key]) for key in one):
            return False
    return True


def prepare(folder: Path, images: int, cfg: Path) -> list[str]:
    """Write a data set and a small model; return the options that train it."""
    generate_shapes10(folder / "shapes", counts={"train": images, "val": images // 2})
    content = {"path": str(folder / "shapes"), "train": "images/train", "val": "images/val", "names": list(CLASS_NAMES)}
    (folder / "data.yaml").write_text(yaml.safe_dump(content))
    model = yaml.safe_load(cfg.read_text()) | {"nc": len(CLASS_NAMES), "width_multiple": 0.125}
    (folder / "model.yaml").write_text(yaml.safe_dump(model))
    return [*SETTINGS, "--data", str(folder / "data.yaml"), "--cfg", str(folder / "model.yaml")]


def print_row(workers: int, kill: Kill, whole: Path, seconds: float) -> None:
    for number, (time_killed, reached, count) in enumerate(zip(kill.times, kill.reached, kill.leftovers, strict=True)):
        is_last = number == len(kill.times) - 1
        try:
            outcome = ("yes" if same_outcome(kill.folder, whole) else "NO") if is_last else "killed again"
        except (UserError, OSError) as error:
            outcome = f"NO: {error}"
        print(f"| {workers} | {time_killed:.2f} of {seconds:.1f} s | {reached} | {count} | {outcome} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=5, help="runs to kill for each number of workers")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--cfg", type=Path, default=ROOT / "models/yolov5-NAM.yaml")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--keep", type=Path, help="leave the runs in this folder")
    options = parser.parse_args()
    generator = random.Random(options.seed)
    folder = options.keep or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    words = [*prepare(folder, options.images, options.cfg), "--epochs", str(options.epochs)]
    print(f"seed {options.seed}, {options.epochs} epochs of {options.images} images\n")
    print("| workers | killed after | run had come to | temporary files left | identical in the end |")
    print("|---|---|---|---|---|")
    wholes = []
    for workers in options.workers:
        given = [*words, "--workers", str(workers)]
        name = f"whole{workers}"
        whole, seconds = run_to_end([*given, "--project", str(folder), "--name", name], folder / name)
        wholes.append(whole)
        for number in range(options.kills):
            time_killed = generator.uniform(0, seconds)
            print_row(workers, kill_run(given, folder, f"w{workers}k{number}", time_killed), whole, seconds)
        times = [generator.uniform(0.3 * seconds, 0.7 * seconds) for _ in range(3)]
        print_row(workers, kill_run(given, folder, f"w{workers}again", *times), whole, seconds)
    same = all(same_outcome(whole, wholes[0]) for whole in wholes)
    print(f"\nWhole runs with {', '.join(map(str, options.workers))} workers identical: {'yes' if same else 'NO'}")
    if not options.keep:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
