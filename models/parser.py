"""A model YAML becomes layers: ``[from, number, module, arguments]`` rows are checked, understood and built."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from models.registry import REGISTRY, Plan, Site, gates, parse_activation
from utils.errors import UserError, near_matches

KNOWN_KEYS = (
    *("nc", "depth_multiple", "width_multiple", "anchors", "backbone", "head", "ch", "inplace"),
    *("activation", "channel_multiple"),
)
REQUIRED_KEYS = ("nc", "depth_multiple", "width_multiple", "anchors", "backbone", "head")


@dataclass(frozen=True)
class Row:
    """What one YAML row became, for tables and reports."""

    index: int
    source: int | list[int]
    repeats: int
    type: str  # as written in the YAML
    arguments: list[Any]
    options: dict[str, Any]  # keyword arguments
    parameters: int
    out_channels: int
    is_gate: bool  # keeps the shape of what it reads, see registry.gates

    @property
    def sources(self) -> list[int]:
        """Indices of the rows it reads, -1 being the image."""
        return [one if one >= 0 else self.index + one for one in as_list(self.source)]


def unread_rows(rows: list[Row]) -> list[Row]:
    """Return the rows, but for the last, whose output no row reads."""
    read = {source for row in rows for source in row.sources}
    return [row for row in rows[:-1] if row.index not in read]


def check_config(config: dict[str, Any], source: str) -> None:
    """Check the keys and the shape of a model YAML.

    Raises:
        UserError: naming ``source`` and the key or row.
    """
    for key in (key for key in REQUIRED_KEYS if key not in config):
        raise UserError(f"{source}: key '{key}' is missing; a model YAML has {', '.join(REQUIRED_KEYS)}")
    for key in (key for key in config if key not in KNOWN_KEYS):
        raise UserError(f"{source}: unknown key '{key}'{near_matches(key, KNOWN_KEYS)}")
    for key in ("nc", "ch", "channel_multiple"):
        if not _is_count(config.get(key, 1)):
            raise UserError(f"{source}: {key} is {config[key]!r}, expected a whole number from 1")
    for key in ("depth_multiple", "width_multiple"):
        if not isinstance(config[key], int | float) or not 0 < config[key] < math.inf:
            raise UserError(f"{source}: {key} is {config[key]!r}, expected a number above 0")
    for section in ("backbone", "head"):
        if not isinstance(config[section], list):
            raise UserError(f"{source}: {section} must be a list of rows [from, number, module, args]")
    if not config["backbone"] and not config["head"]:
        raise UserError(f"{source}: backbone and head have no rows")
    check_anchors(config["anchors"], source)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def check_anchors(anchors: object, source: str) -> None:
    """Check that ``anchors`` is a number per level or rows of w, h pairs of one length.

    Raises:
        UserError: it is neither.
    """
    if _is_count(anchors):
        return
    rows = anchors if isinstance(anchors, list) and anchors else [None]
    lengths = {len(row) if isinstance(row, list) else 0 for row in rows}
    if len(lengths) > 1 or 0 in lengths or lengths.pop() % 2:
        raise UserError(f"{source}: anchors must be a number per level, or one row of w,h pairs a level, all as long")


def parse_model(config: dict[str, Any], source: str) -> tuple[nn.Sequential, list[int], list[Row]]:
    """Build the layers of a checked model YAML.

    Args:
        config: the mapping, with ``ch`` input channels.
        source: name of the file, for errors.

    Returns:
        The layers, the sorted indices whose outputs later layers read, and a description of each row.

    Raises:
        UserError: a row is malformed, names an unknown layer, reads a layer that is not there, or does not fit.
    """
    width = _width_rule(config)
    words = {"nc": config["nc"], "anchors": config["anchors"], "None": None, "True": True, "False": False}
    layers: list[nn.Module] = []
    rows: list[Row] = []
    channels: list[int] = []
    for index, row in enumerate([*config["backbone"], *config["head"]]):
        name = row[2] if isinstance(row, list) and len(row) > 2 else "?"
        try:
            reads, repeats, name, arguments, options = _read_row(row, words, config["depth_multiple"])
            inputs = [_channels_of(one, channels, config["ch"]) for one in as_list(reads)]
            entry = REGISTRY.find(name)
            plan = _call(entry.plan, Site(inputs, repeats, width), *arguments, **options)
            module = _chain(entry.build, plan)
        except UserError as error:
            said = str(error).removeprefix(f"{name}: ")  # layers name themselves
            raise UserError(f"{source}: row {index} {name}: {said}") from error
        parameters = sum(parameter.numel() for parameter in module.parameters())
        for attribute, value in (("i", index), ("f", reads), ("type", name), ("np", parameters)):  # v6.1's names
            setattr(module, attribute, value)
        rows.append(
            Row(
                index=index,
                source=reads,
                repeats=repeats,
                type=name,
                arguments=list(plan.arguments),
                options=plan.options,
                parameters=parameters,
                out_channels=plan.out_channels,
                is_gate=entry.plan is gates,
            )
        )
        layers.append(module)
        channels.append(plan.out_channels)
    read_later = {one % row.index for row in rows for one in as_list(row.source) if one != -1}
    return nn.Sequential(*layers), sorted(read_later), rows


def _width_rule(config: dict[str, Any]) -> Callable[[int], int]:
    anchors = config["anchors"]
    head_channels = (anchors if isinstance(anchors, int) else len(anchors[0]) // 2) * (config["nc"] + 5)
    multiple, divisor = config["width_multiple"], config.get("channel_multiple", 8)

    def width(channels: int) -> int:
        if not isinstance(channels, int) or channels < 1:
            raise UserError(f"output channels are {channels!r}, expected a whole number from 1")
        return channels if channels == head_channels else math.ceil(channels * multiple / divisor) * divisor

    return width


def check_row(row: Any) -> None:
    """Check the form of one row.

    Raises:
        UserError: it is not [from, number, module, [arguments]].
    """
    if not isinstance(row, list) or len(row) != 4 or not isinstance(row[3], list) or not isinstance(row[2], str):
        raise UserError(f"{row!r} is not a row [from, number, module, [arguments]]")
    reads, number = row[:2]
    if not all(isinstance(one, int) for one in as_list(reads)) or reads == []:
        raise UserError(f"from is {reads!r}, expected a layer index or a list of them")
    if not isinstance(number, int) or number < 1:
        raise UserError(f"number is {number!r}, expected a whole number from 1")


def _read_row(
    row: Any, words: dict[str, Any], depth_multiple: float
) -> tuple[int | list[int], int, str, list[Any], dict[str, Any]]:
    """Return (from, repeats, layer name, arguments, options) of a row, with its words replaced by what they mean."""
    check_row(row)
    reads, number, name, written = row
    repeats = max(round(number * depth_multiple), 1) if number > 1 else number
    options = written[-1] if written and isinstance(written[-1], dict) else {}
    arguments = [_meaning(word, words) for word in (written[:-1] if options else written)]
    return reads, repeats, name, arguments, {key: _meaning(word, words) for key, word in options.items()}


def _meaning(word: Any, words: dict[str, Any]) -> Any:
    if not isinstance(word, str):
        return word
    if word.startswith(("nn.", "torch.nn.")):
        return parse_activation(word)
    return words.get(word, word)


def as_list(value: Any) -> list[Any]:
    """Return ``value`` if it is a list, else a list of it."""
    return value if isinstance(value, list) else [value]


def _channels_of(reads: int, channels: list[int], image_channels: int) -> int:
    if not channels and reads == -1:
        return image_channels
    if not -len(channels) <= reads < len(channels):
        raise UserError(f"reads layer {reads}, but only layers 0 to {len(channels) - 1} come before it")
    return channels[reads]


def _call(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call, turning arguments of the wrong number or kind into a UserError that lists them."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Initializing zero-element tensors")  # a kernel of 0 pixels
            return function(*arguments, **options)
    except UserError:
        raise
    except Exception as error:  # constructors check little; what a wrong argument leads to is a matter of luck
        shown = [argument for argument in arguments if not isinstance(argument, Site)]
        raise UserError(f"does not accept arguments {[*shown, *([options] if options else [])]} ({error})") from error


def _chain(build: Callable[..., nn.Module], plan: Plan) -> nn.Module:
    modules = [_call(build, *plan.arguments, **plan.options) for _ in range(plan.copies)]
    return modules[0] if plan.copies == 1 else nn.Sequential(*modules)
