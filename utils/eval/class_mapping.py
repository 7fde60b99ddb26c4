"""A model's classes against those of a data set."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from utils.errors import UserError, listed
from utils.log import LOGGER


def class_columns(model_names: Mapping[int, str], data_names: Mapping[int, str]) -> list[int | None]:
    """Return, for each class of the data set, the model's class of that name; None where it has none.

    Case, outer spaces, and whether words are joined by space, ``_`` or ``-`` do not count, unless they are all that
    tells two classes apart, such as letters. Of several classes that fit, that of the same number is taken, else the
    first.
    """
    exact, plain = _numbers_by_name(model_names, str), _numbers_by_name(model_names, _plain)
    columns = []
    for index in range(len(data_names)):
        name = data_names[index]
        fitting = exact.get(name) or plain.get(_plain(name), [])
        columns.append(index if index in fitting else min(fitting, default=None))
    return columns


def _numbers_by_name(names: Mapping[int, str], form: Callable[[str], str]) -> dict[str, list[int]]:
    numbers: dict[str, list[int]] = {}
    for index, name in names.items():
        numbers.setdefault(form(name), []).append(index)
    return numbers


def check_classes(model_names: Mapping[int, str], data_names: Mapping[int, str], file: Path) -> None:
    """See that class numbers mean the same to a model and a data set; warn where only the names differ.

    Args:
        model_names: of the model, by index.
        data_names: of the data set, by index.
        file: YAML of the data set, for messages.

    Raises:
        UserError: the numbers of classes differ, or a name has another number.
    """
    columns = class_columns(model_names, data_names)
    common = sum(column is not None for column in columns)
    offer = f"--map-classes measures the {common} of {len(data_names)} that the model has by name" if common else ""
    if len(model_names) != len(data_names):
        unknown = [data_names[index] for index, column in enumerate(columns) if column is None]
        strangers = f"; the model has no {_quoted(unknown)}" if unknown else ""
        mends = [offer, "or measure on the data set it was trained for, or with --single-cls"]
        raise UserError(
            f"the model knows {len(model_names)} classes, but {file} has {len(data_names)}{strangers}; "
            + ", ".join(filter(None, mends)).removeprefix("or ")
        )
    differing = [index for index, column in enumerate(columns) if column != index]
    if not differing:
        return
    moved = [index for index in differing if columns[index] is not None]
    first = (moved or differing)[0]
    difference = f"class {first} is '{model_names[first]}' to the model and '{data_names[first]}' in {file}"
    if moved:
        raise UserError(f"{difference}, which the model has as class {columns[first]}; --map-classes goes by name")
    more = f", and {len(differing) - 1} more differ" if len(differing) > 1 else ""
    hint = f"; {offer}" if offer else ""
    LOGGER.warning(f"WARNING: {difference}{more}; classes of one number are taken for the same{hint}")


class ByName:
    """A model that gives the classes of a data set, found by name; scores of classes it does not know are 0.

    Args:
        predict: (B, C, H, W) images to (B, N, 5 + classes of the model).
        columns: from `class_columns`.
    """

    def __init__(self, predict: Callable[[Tensor], Tensor], columns: Sequence[int | None]) -> None:
        self._predict = predict
        self._sources = [column for column in columns if column is not None]
        self._targets = [index for index, column in enumerate(columns) if column is not None]
        self._count = len(columns)

    def __call__(self, images: Tensor) -> Tensor:
        """Return (B, N, 5 + classes of the data set)."""
        decoded = self._predict(images)
        chosen = decoded.new_zeros(*decoded.shape[:2], 5 + self._count)
        chosen[..., :5] = decoded[..., :5]
        chosen[..., [5 + index for index in self._targets]] = decoded[..., [5 + index for index in self._sources]]
        return chosen


def map_classes(
    predict: Callable[[Tensor], Tensor], model_names: Mapping[int, str], data_names: Mapping[int, str]
) -> ByName:
    """Return ``predict`` in terms of the data set's classes, and say which of them the model does not know.

    Raises:
        UserError: the two have no name in common.
    """
    columns = class_columns(model_names, data_names)
    unknown = [data_names[index] for index, column in enumerate(columns) if column is None]
    if len(unknown) == len(columns):
        raise UserError(
            f"--map-classes: the model has none of the data set's classes ({_quoted(unknown)}); "
            f"its own are {_quoted(list(model_names.values()))}"
        )
    LOGGER.info(f"{len(columns) - len(unknown)} of {len(columns)} classes are the model's by name")
    if unknown:
        LOGGER.warning(f"WARNING: the model has no {_quoted(unknown)}: their AP is 0")
    return ByName(predict, columns)


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def _quoted(names: Sequence[str]) -> str:
    return listed([f"'{name}'" for name in names])
