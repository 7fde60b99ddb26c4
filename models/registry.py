"""How one row of a model YAML becomes a layer.

A layer states, where it is defined, how it meets its neighbours: ``@layer(projects)`` above the class is all it takes.
The parser holds no list of classes and never evaluates text as code.
"""

import ast
import hashlib
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

from torch import nn

from utils.errors import UserError, near_matches


@dataclass(frozen=True)
class Site:
    """Where a row is being placed."""

    channels: list[int]  # of each of its inputs
    repeats: int  # the row's number, after depth_multiple
    width: Callable[[int], int]  # applies width_multiple; leaves the head's own channel count alone


class Plan(NamedTuple):
    """What the parser builds for a row."""

    arguments: Sequence[Any]  # of the constructor
    out_channels: int
    copies: int = 1  # chained in an nn.Sequential when more than one
    options: dict[str, Any] = {}  # noqa: RUF012  keyword arguments of the constructor


@runtime_checkable
class Foldable(Protocol):
    """A layer with a cheaper form for inference."""

    def fold(self) -> None:
        """Take that form, in place; outputs of evaluation mode stay the same. A second call does nothing."""


@runtime_checkable
class NeutralStart(Protocol):
    """A gate that can start as a constant factor, so that a pretrained network takes it in without a change."""

    def start_neutral(self) -> float:
        """Set the fresh layer's weights so that it multiplies its input by a constant, and return the constant."""


Planner = Callable[..., Plan]  # (site, *row arguments, **row options)
LayerClass = TypeVar("LayerClass", bound=type[nn.Module])


def keeps(site: Site, *arguments: Any, **options: Any) -> Plan:
    """Plan a layer that takes the row's arguments as they are and keeps the channel count, e.g. nn.Upsample."""
    return Plan(arguments, site.channels[0], site.repeats, options)


def gates(site: Site, declared: int | None = None, *arguments: Any, **options: Any) -> Plan:
    """Plan a layer built as ``Class(channels, ...)`` whose output has its input's shape, e.g. NAMAttention.

    The row may declare the channel count (before ``width_multiple``); it must be what arrives.
    """
    arriving = site.channels[0]
    if declared is not None and site.width(declared) != arriving:
        raise UserError(
            f"declares {declared} channels ({site.width(declared)} after width_multiple) but {arriving} arrive; "
            "declare what the layer before it gives, or leave the list empty"
        )
    return Plan([arriving, *arguments], arriving, site.repeats, options)


def joins(site: Site, *arguments: Any) -> Plan:
    """Plan a layer that puts its inputs together along the channels, e.g. Concat."""
    return Plan(arguments, sum(site.channels), site.repeats)


def projects(site: Site, out_channels: int, *arguments: Any, **options: Any) -> Plan:
    """Plan a layer built as ``Class(in_channels, out_channels, ...)``, chained ``repeats`` times, e.g. Conv."""
    out = site.width(out_channels)
    return Plan([site.channels[0], out, *arguments], out, site.repeats, options)


def stacks(site: Site, out_channels: int, *arguments: Any, **options: Any) -> Plan:
    """Plan a layer built as ``Class(in_channels, out_channels, repeats, ...)`` that repeats inside itself, e.g. C3."""
    out = site.width(out_channels)
    return Plan([site.channels[0], out, site.repeats, *arguments], out, 1, options)


def detects(site: Site, classes: int, anchors: list[list[float]] | int) -> Plan:
    """Plan a detection head. ``anchors`` as a number asks for that many per level, with placeholder sizes (v6.1)."""
    if isinstance(anchors, int):
        anchors = [list(range(2 * anchors)) for _ in site.channels]
    if len(anchors) != len(site.channels):
        raise UserError(f"has {len(anchors)} rows of anchors but {len(site.channels)} inputs; give one row per input")
    return Plan([classes, anchors, site.channels], 0)


@dataclass(frozen=True)
class PluginFile:
    """A file of layers of the user's own, as it was when it was loaded."""

    path: Path
    content: bytes

    @property
    def sha256(self) -> str:
        """The hash of the text, the same whatever its line ends are."""
        return hashlib.sha256(self.content.replace(b"\r\n", b"\n")).hexdigest()

    def position(self, error: BaseException) -> str:
        """Return ``file:line`` of the deepest line of the file that led to ``error``, or just the file."""
        own = isinstance(error, SyntaxError) and error.filename == str(self.path)
        lines = [error.lineno] if isinstance(error, SyntaxError) and own else []
        frames = traceback.extract_tb(error.__traceback__)
        lines += [frame.lineno for frame in frames if frame.filename == str(self.path)]
        return f"{self.path}:{lines[-1]}" if lines else str(self.path)


@dataclass(frozen=True)
class RegisteredLayer:
    """A class that rows may name, and its planner; for a plug-in also the file it comes from."""

    build: Callable[..., nn.Module]
    plan: Planner
    plugin: PluginFile | None = None


@dataclass
class Registry:
    """The layers that rows may name."""

    layers: dict[str, RegisteredLayer] = field(default_factory=dict)

    def add(self, name: str, build: Callable[..., nn.Module], plan: Planner) -> None:
        """Register ``build`` under ``name``.

        Raises:
            UserError: another class has that name.
        """
        taken = self.layers.get(name)
        if taken and getattr(taken.build, "__module__", "") != getattr(build, "__module__", ""):
            owner = taken.plugin.path if taken.plugin else taken.build.__module__
            raise UserError(f"layer name '{name}' is taken by {owner}; rename the new class")
        self.layers[name] = RegisteredLayer(build, plan)

    def find(self, name: str) -> RegisteredLayer:
        """Return the layer called ``name``.

        Raises:
            UserError: there is none; near matches are named.
        """
        if name not in self.layers:
            raise UserError(
                f"unknown layer '{name}'{near_matches(name, self.layers)} "
                "(your own is a class with @layer above it in a file passed as --plugins FILE.py, see docs/plugins.md)"
            )
        return self.layers[name]


REGISTRY = Registry()


def layer(plan: Planner) -> Callable[[LayerClass], LayerClass]:
    """Make a class available to model YAMLs under its own name, placed by ``plan``."""

    def register(layer_class: LayerClass) -> LayerClass:
        REGISTRY.add(layer_class.__name__, layer_class, plan)
        return layer_class

    return register


ACTIVATIONS = (
    "SiLU",
    "ReLU",
    "ReLU6",
    "LeakyReLU",
    "Hardswish",
    "Hardsigmoid",
    "Sigmoid",
    "Tanh",
    "Mish",
    "GELU",
    "ELU",
)
KEEPING = ("Upsample", "MaxPool2d", "AvgPool2d", "ZeroPad2d", "Identity", "Dropout", "Dropout2d", *ACTIVATIONS)

for _name in KEEPING:
    REGISTRY.add(f"nn.{_name}", getattr(nn, _name), keeps)
REGISTRY.add("nn.BatchNorm2d", nn.BatchNorm2d, gates)
REGISTRY.add("nn.Conv2d", nn.Conv2d, projects)
REGISTRY.add("nn.ConvTranspose2d", nn.ConvTranspose2d, projects)


def parse_activation(text: str) -> nn.Module:
    """Build an activation from text such as ``"nn.LeakyReLU(0.1)"`` without evaluating it.

    Raises:
        UserError: not ``nn.<Activation>(plain values)`` with an activation this project knows.
    """
    try:
        call = ast.parse(str(text).strip().removeprefix("torch."), mode="eval").body
        name = ast.unparse(call.func).removeprefix("nn.") if isinstance(call, ast.Call) else ""
        if not isinstance(call, ast.Call) or name not in ACTIVATIONS:
            raise ValueError(f"expected one of nn.{', nn.'.join(ACTIVATIONS)} with plain values in ()")
        arguments = [ast.literal_eval(node) for node in call.args]
        options = {node.arg: ast.literal_eval(node.value) for node in call.keywords if node.arg}
        return getattr(nn, name)(*arguments, **options)
    except (SyntaxError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"activation '{text}' cannot be built: {error}") from error
