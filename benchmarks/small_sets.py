"""What training options are worth on a small data set, over several seeds.

    python benchmarks/small_sets.py --weights yolov5n.pt --epochs 15 --size 160 --seeds 3 \
        --variant "--warmup 1000" --variant "--warmup 100" --variant "--warmup auto"

Each variant fine-tunes the weights on a data set (shapes10 unless --data says another) with seeds 0, 1, ...; printed
are mAP50-95 of the best weights as mean and half width of its 95 % interval (Student's t), and the same of the
differences to the first variant, seed by seed.
"""

import argparse
import contextlib
import io
import math
import shlex
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

STUDENT = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26}  # 97.5 %, by freedom


def score(words: list[str]) -> float:
    """Train with the command line ``words`` and return mAP50-95 of the best weights."""
    import train
    from utils.options import build_parser, make_options
    from utils.train.options import TrainOptions

    options = make_options(TrainOptions, vars(build_parser("train.py", TrainOptions, "").parse_args(words)))
    with contextlib.redirect_stdout(io.StringIO()):
        return train.main(options).map50_95


def interval(values: list[float]) -> str:
    """Return ``mean ± half width`` of the 95 % interval."""
    if len(values) < 2:
        return f"{values[0]:.4f}"
    half = STUDENT.get(len(values) - 1, 1.96) * statistics.stdev(values) / math.sqrt(len(values))
    return f"{statistics.mean(values):.4f} ± {half:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="yolov5n.pt")
    parser.add_argument("--data", default="shapes10.yaml")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--variant", action="append", required=True, help="options of train.py, in quotes")
    options = parser.parse_args()
    results: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        words = f"--weights {options.weights} --data {options.data} --epochs {options.epochs} --imgsz {options.size}"
        words += f" --project {folder} --noplots --log-to none --device cpu"
        for seed in range(options.seeds):  # all variants of a seed together, so that cutting it short leaves pairs
            for variant in options.variant:
                value = score([*shlex.split(words), "--seed", str(seed), *shlex.split(variant)])
                results.setdefault(variant, []).append(value)
                print(f"seed {seed}  {variant:40} {value:.4f}", flush=True)
    first = results[options.variant[0]]
    for variant, values in results.items():
        difference = interval([one - other for one, other in zip(values, first, strict=True)])
        print(f"{variant:40} {interval(values)}   against the first {difference}")


if __name__ == "__main__":
    main()
