"""Which loggers listen to a run: TensorBoard if it is installed, MLflow and W&B when asked for."""

import importlib.util
from collections.abc import Callable, Sequence

from utils.errors import UserError, near_matches
from utils.hooks.base import Hook
from utils.hooks.facts import RunFacts
from utils.hooks.guarded import Guarded
from utils.hooks.mlflow_run import MLflowRun
from utils.hooks.tensorboard import TensorBoard
from utils.hooks.wandb_run import WandbRun

LOGGERS: dict[str, Callable[[RunFacts], Hook]] = {"tensorboard": TensorBoard, "mlflow": MLflowRun, "wandb": WandbRun}
ON_BY_DEFAULT = "tensorboard"  # left out without a word where it is not installed
NOBODY = "none"  # takes precedence over all names


def is_installed(package: str) -> bool:
    """Tell whether ``package`` can be imported; a mere folder of its name, such as W&B leaves, is no package."""
    specification = importlib.util.find_spec(package)
    return specification is not None and specification.origin is not None


def check_loggers(names: Sequence[str]) -> None:
    """Make sure that all loggers are there.

    Raises:
        UserError: a name is unknown, or its package is missing.
    """
    known = [*LOGGERS, NOBODY]
    for name in names:
        if name not in known:
            raise UserError(f"--log-to '{name}' is not known{near_matches(name, known)}; choose of {', '.join(known)}")
        if name not in (ON_BY_DEFAULT, NOBODY) and not is_installed(name):
            raise UserError(f"--log-to {name} needs a package that is missing here: pip install {name}")


def make_loggers(names: Sequence[str], facts: RunFacts) -> list[Hook]:
    """Return the loggers of a run, none of which can stop it.

    Args:
        names: of "mlflow" and "wandb", which join TensorBoard, and "none" for no logger at all.
        facts: the run.

    Raises:
        UserError: a name is unknown, or its package is missing.
    """
    check_loggers(names)
    if NOBODY in names:
        return []
    chosen = dict.fromkeys([ON_BY_DEFAULT, *names])
    return [Guarded(LOGGERS[name](facts), name) for name in chosen if is_installed(name)]
