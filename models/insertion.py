"""Inserting layers into a model YAML by rule, with every index in it kept right.

    NAMAttention@23                          after layer 23
    NAMAttention@4,6,9                       after each of these
    NAMAttention@C3                          after every C3
    CBAM@before-Detect                       on each input of Detect, seen by nothing else
    NAMAttention(no_spatial=False)@9         with options, as in Python

Indices are those of the YAML before any insertion. What reads a layer reads what was inserted after it. Several
insertions at one place follow each other in the order given.
"""

import ast
import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from models.parser import as_list, check_config, check_row
from models.registry import REGISTRY, detects, gates, joins, keeps, projects, stacks
from utils.errors import UserError, near_matches

BEFORE_DETECT = "before-Detect"
YAML_CONSTANTS = {"true": True, "false": False, "null": None}


@dataclass(frozen=True)
class Rule:
    """One ``--insert``.

    Attributes:
        text: as given, for errors.
        name: layer to insert, with its positional arguments and its options.
        place: what follows the @.
    """

    text: str
    name: str
    place: str
    arguments: list[Any] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)


def parse_rule(text: str) -> Rule:
    """Understand one ``Layer(options)@place``.

    Raises:
        UserError: the text is no rule, or names an unknown layer.
    """
    layer_text, at, place = (part.strip() for part in text.rpartition("@"))
    wanted = "expected Layer@place, such as NAMAttention@23, NAMAttention@C3, CBAM@before-Detect or SE(reduction=8)@4,6"
    if not at or not layer_text or not place:
        raise UserError(f"--insert {text}: {wanted}")
    try:
        node = ast.parse(layer_text, mode="eval").body
        call = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
        if not isinstance(call.func, ast.Name | ast.Attribute) or any(one.arg is None for one in call.keywords):
            raise ValueError
        name = ast.unparse(call.func)
        arguments = [_value(one) for one in call.args]
        options = {str(one.arg): _value(one.value) for one in call.keywords}
    except (SyntaxError, ValueError, RecursionError) as error:
        raise UserError(f"--insert {text}: '{layer_text}' is not a layer with plain arguments; {wanted}") from error
    try:
        REGISTRY.find(name)
    except UserError as error:
        raise UserError(f"--insert {text}: {error}") from error
    return Rule(text, name, place, arguments, options)


def _value(node: ast.expr) -> Any:
    """Return what an argument means; a bare word, which the shell leaves of a quoted one, is a string.

    The constants may be written as in Python or as in YAML.
    """
    if isinstance(node, ast.Name) and node.id in YAML_CONSTANTS:
        return YAML_CONSTANTS[node.id]
    if isinstance(node, ast.Name | ast.Attribute | ast.Call):
        return ast.unparse(node)
    return ast.literal_eval(node)


def insert_layers(config: dict[str, Any], rules: Sequence[str], source: str) -> dict[str, Any]:
    """Return a copy of a model YAML with the layers of all rules inserted.

    Args:
        config: the mapping.
        rules: texts as above.
        source: name of the YAML, for errors.

    Raises:
        UserError: a rule is malformed, matches nothing or names a place that is not there; the YAML is malformed.
    """
    check_config(config, source)
    rows = [*config["backbone"], *config["head"]]
    for index, row in enumerate(rows):
        try:
            check_row(row)
        except UserError as error:
            raise UserError(f"{source}: row {index}: {error}") from error
    after: list[list[Rule]] = [[] for _ in rows]
    before_detect: list[Rule] = []
    for rule in map(parse_rule, rules):
        if rule.place == BEFORE_DETECT:
            before_detect.append(rule)
        for index in _places(rule, rows, source):
            after[index].append(rule)
    try:
        backbone, head = _rewrite(rows, after, before_detect, len(config["backbone"]))
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    return copy.deepcopy(config) | {"backbone": backbone, "head": head}


def _places(rule: Rule, rows: list[Any], source: str) -> list[int]:
    """Return the indices of the rows that a rule inserts after."""
    last = len(rows) - 1
    if rule.place == BEFORE_DETECT:
        return []
    if not rule.place[0].isdigit() and rule.place[0] != "-":
        places = [index for index, row in enumerate(rows[:-1]) if row[2] == rule.place]
        if not places:
            types = sorted({row[2] for row in rows[:-1]})
            hint = near_matches(rule.place, [*types, BEFORE_DETECT])
            raise UserError(
                f"--insert {rule.text}: {source} has no layer '{rule.place}'{hint}; it has {', '.join(types)}"
            )
        return places
    words = [word.strip() for word in rule.place.split(",")]
    for word in words:
        if not word.isdecimal() or int(word) >= last:
            raise UserError(
                f"--insert {rule.text}: no layer can follow '{word}'; {source} takes insertions after layers "
                f"0 to {last - 1} (layer {last} is {rows[last][2]})"
            )
    return [int(word) for word in dict.fromkeys(words)]


def _rewrite(
    rows: list[Any], after: list[list[Rule]], before_detect: list[Rule], backbone_rows: int
) -> tuple[list[Any], list[Any]]:
    """Return backbone and head with the new rows, and every ``from`` pointing where it should."""
    sections: tuple[list[Any], list[Any]] = ([], [])
    reads_as: list[int] = []  # by old index: new index of the row's output, after what was inserted behind it
    count = 0
    for index, (reads, number, name, arguments) in enumerate(rows):
        section = sections[index >= backbone_rows]
        sources = [one if one >= 0 else index + one for one in as_list(reads)]  # old indices, -1 being the image
        if any(not -(index == 0) <= source < index for source in sources):
            raise UserError(f"row {index} {name}: from is {reads}, but only layers 0 to {index - 1} come before it")
        targets = [reads_as[source] if source >= 0 else source for source in sources]
        if index == len(rows) - 1 and before_detect:
            channels = [declared_channels(rows, source) for source in sources]
            for level, target in enumerate(targets):
                for rule in before_detect:
                    section.append([target, 1, rule.name, _row_arguments(rule, channels[level])])
                    target, count = count, count + 1
                targets[level] = target
        style = [
            target - count if one < 0 <= source else target
            for one, source, target in zip(as_list(reads), sources, targets, strict=True)
        ]  # relative where it was relative
        section.append([style if isinstance(reads, list) else style[0], number, name, copy.deepcopy(arguments)])
        count += 1
        for rule in after[index]:
            section.append([-1, 1, rule.name, _row_arguments(rule, declared_channels(rows, index))])
            count += 1
        reads_as.append(count - 1)
    return sections


def declared_channels(rows: list[Any], index: int) -> int | None:
    """Return the output channels of a row as YAMLs write them, before ``width_multiple``; None when no row says."""
    reads, _, name, arguments = rows[index]
    entry = REGISTRY.layers.get(name)
    plan = entry.plan if entry else None
    if plan in (projects, stacks, gates) and arguments and isinstance(arguments[0], int):
        return arguments[0]
    if plan in (keeps, gates) and isinstance(reads, int):
        source = reads if reads >= 0 else index + reads
        return declared_channels(rows, source) if 0 <= source < index else None
    return None


def _row_arguments(rule: Rule, channels: int | None) -> list[Any]:
    """Return the arguments column of an inserted row, with the channel count its planner expects."""
    plan = REGISTRY.find(rule.name).plan
    arguments, options = rule.arguments, [rule.options] if rule.options else []
    if plan in (joins, detects):
        raise UserError(f"--insert {rule.text}: {rule.name} reads several layers; write its row in a YAML")
    if plan is gates:
        own = arguments[1:] if channels and arguments[:1] == [channels] else arguments  # declared, as YAML rows do
        return [channels, *own, *options] if channels or own else options
    if plan in (projects, stacks) and not arguments:
        if channels is None:
            raise UserError(f"--insert {rule.text}: say the output channels, as {rule.name}(256)@{rule.place}")
        arguments = [channels]
    return [*arguments, *options]
