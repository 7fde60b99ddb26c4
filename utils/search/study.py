"""Opens the Optuna study of a hyperparameter search: in a file, in a data base, or in memory."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from utils.errors import UserError
from utils.log import LOGGER

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

LOCAL_FILE = "study.db"
JOURNAL_SUFFIXES = (".log", ".journal")
STORAGES = "a data base such as postgresql://user@host/name or sqlite:///file.db, or journal:file for a shared file"
DRIVERS = {
    "psycopg": "psycopg[binary]",
    "psycopg2": "psycopg2-binary",
    "MySQLdb": "mysqlclient",
}  # packages that are not called as their module
LOCK_PATIENCE = 60  # s that a process waits for another to finish writing to SQLite
OPENING_TRIES = 5
OPENING_PAUSE = 0.2  # s, longer each time
PRUNING_STARTS = 5  # complete trials to compare with
PRUNING_EPOCH = 5  # the longest warm-up that is searched; before its end, fitness says little


def import_optuna() -> ModuleType:
    """Return Optuna, which then reports nothing but errors.

    Raises:
        UserError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise UserError("--evolve needs Optuna: pip install optuna") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


class SamplerPerTrial:
    """Optuna's TPE, begun anew for each trial with a seed made of ``seed`` and the trial's number.

    So processes that share a study never draw the same numbers, and one that goes on with a study draws what the one
    before it would have drawn.
    """

    def __init__(self, seed: int, make: Callable[..., Any]) -> None:
        self._seed = seed
        self._make = make
        self._sampler = make(seed=0)

    def before_trial(self, study: "Study", trial: "FrozenTrial") -> None:
        """Begin anew."""
        mixed = np.random.SeedSequence([self._seed, trial.number]).generate_state(1)[0]
        self._sampler = self._make(seed=int(mixed))
        self._sampler.before_trial(study, trial)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sampler, name)


def open_study(folder: Path, storage: str, name: str, seed: int) -> "Study":
    """Return the study ``name``, created if it is not there.

    Args:
        folder: of the search.
        storage: ``""`` for ``study.db`` (SQLite) in the folder, or in memory, with a warning, where SQLAlchemy does
            not work; the URL of a data base; ``journal:PATH``, or a path that ends in .log or .journal, for a file
            that processes and machines share without a server.
        name: of the study.
        seed: of the sampler.

    Raises:
        UserError: Optuna is not installed, or the storage cannot be opened.
    """
    optuna = import_optuna()
    try:
        return _patiently(
            lambda: optuna.create_study(
                storage=_open_storage(optuna, folder, storage),
                study_name=name,
                direction="maximize",
                load_if_exists=True,
                sampler=SamplerPerTrial(seed, optuna.samplers.TPESampler),
                pruner=optuna.pruners.MedianPruner(n_startup_trials=PRUNING_STARTS, n_warmup_steps=PRUNING_EPOCH),
            )
        )
    except UserError:
        raise
    except Exception as error:  # each kind of storage and driver has its own
        raise storage_error(storage or str(folder / LOCAL_FILE), error) from error


def _patiently(make: Callable[[], "Study"]) -> "Study":
    """Call ``make`` again when a data base refuses: two processes may create its tables at the same time."""
    for attempt in range(1, OPENING_TRIES):
        try:
            return make()
        except Exception as error:
            if not hasattr(error, "orig"):  # SQLAlchemy's mark of an error that comes from the data base itself
                raise
            time.sleep(OPENING_PAUSE * attempt)
    return make()


def _open_storage(optuna: ModuleType, folder: Path, storage: str) -> "BaseStorage":
    if not storage:
        return _open_local(optuna, folder)
    if storage.startswith("journal:"):
        return _open_journal(optuna, Path(storage.removeprefix("journal:")))
    if "://" in storage:
        return _open_database(optuna, storage)
    if storage.endswith(JOURNAL_SUFFIXES):
        return _open_journal(optuna, Path(storage))
    raise UserError(f"--evolve-storage '{storage}': expected {STORAGES}")


def _open_local(optuna: ModuleType, folder: Path) -> "BaseStorage":
    folder.mkdir(parents=True, exist_ok=True)
    try:
        from sqlalchemy.engine import URL

        url = URL.create("sqlite", database=str((folder / LOCAL_FILE).resolve())).render_as_string()
        return _open_database(optuna, url.replace("{", "{{").replace("}", "}}"))  # Optuna fills in such places
    except ImportError as error:
        LOGGER.warning(f"The search is kept in memory and cannot be resumed: SQLAlchemy does not work here ({error})")
        return optuna.storages.InMemoryStorage()


def _open_database(optuna: ModuleType, url: str) -> "BaseStorage":
    settings = {"connect_args": {"timeout": LOCK_PATIENCE}} if url.startswith("sqlite") else {}
    return optuna.storages.RDBStorage(url, engine_kwargs=settings)


def _open_journal(optuna: ModuleType, path: Path) -> "BaseStorage":
    from optuna.storages import journal

    lock = journal.JournalFileOpenLock(str(path))  # works on Windows and NFS, which symbolic links may not
    return optuna.storages.JournalStorage(journal.JournalFileBackend(str(path), lock_obj=lock))


def storage_error(storage: str, error: Exception) -> UserError:
    """Say in one line, without its password, what is wrong with a storage."""
    module = getattr(error.__cause__, "name", None)
    if isinstance(error, ImportError) and module:
        reason = f"its driver is missing: pip install {DRIVERS.get(module, module)}"
    else:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    message = f"--evolve-storage '{storage}' does not work ({reason}); expected {STORAGES}"
    return UserError(re.sub(r"(://[^:/@\s]*):[^/\s]*@", r"\1:***@", message))
