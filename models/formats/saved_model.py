"""TensorFlow SavedModel: a folder for TensorFlow Serving and for whatever else builds on TensorFlow."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from models.formats.exported import DETECTION_COLUMNS, Runtime
from models.formats.facts import Facts, tidy
from models.formats.settings import ExportSettings, LoadSettings
from models.formats.silence import silence
from models.formats.tf_graph import convert_to_function
from models.yolo import Model
from utils.errors import UserError

FACTS_FILE = "metadata.yaml"
SIGNATURE = "serving_default"


def export(model: Model, path: Path, settings: ExportSettings) -> None:
    """Write a network as SavedModel: (B, H, W, C) images in, boxes as shares of the image out.

    Raises:
        ImportError: litert-torch or tensorflow is not installed.
        UserError: the network cannot be converted.
    """
    function = convert_to_function(model, settings)
    with silence(settings.verbose):
        import tensorflow as tf

        holder = tf.Module()
        holder.__call__ = function
        tf.saved_model.save(holder, str(path), signatures={SIGNATURE: function})


def write_facts(path: Path, facts: Facts) -> None:
    """Put facts beside the graph."""
    (path / FACTS_FILE).write_text(yaml.safe_dump(facts, sort_keys=False), encoding="utf-8")


def read_facts(path: Path) -> Facts:
    """Return what ``write_facts`` wrote into a folder; {} if nothing.

    Raises:
        UserError: the file is damaged.
    """
    file = path / FACTS_FILE
    if not file.exists():
        return {}
    try:
        return tidy(yaml.safe_load(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise UserError(f"'{file}' is damaged: {error}; export the model again") from error


def load(path: Path, settings: LoadSettings) -> Runtime:
    """Load a folder of this project or of YOLOv5.

    Raises:
        ImportError: tensorflow is not installed.
        UserError: the folder is no SavedModel, or no detector.
    """
    with silence():
        import tensorflow as tf

        try:
            function = tf.saved_model.load(str(path)).signatures[SIGNATURE]
        except (OSError, KeyError, ValueError, tf.errors.OpError) as error:
            raise UserError(f"'{path}' is no SavedModel with a signature '{SIGNATURE}', or it is damaged") from error
    inputs = list(function.structured_input_signature[1].values())
    tables = {name: output for name, output in function.structured_outputs.items() if output.shape.rank == 3}
    if len(inputs) != 1 or inputs[0].shape.rank != 4 or len(tables) != 1:
        raise UserError(f"'{path}' is no detector: expected images in and one table of boxes out")
    (images,) = inputs
    ((name, table),) = tables.items()
    run = as_run(tf, lambda values: function(**{images.name: values})[name], settings)
    return runtime_of(path, run, images.shape, table.shape, read_facts(path))


def as_run(tf: Any, function: Callable[[Any], Any], settings: LoadSettings) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function of TensorFlow as Runtime wants it; TensorFlow lets several threads call it."""
    device = "/CPU:0" if settings.device == "cpu" else "/GPU:0"

    def run(images: np.ndarray) -> np.ndarray:
        height, width = images.shape[2:]
        with tf.device(device):
            values = tf.constant(np.ascontiguousarray(images.transpose(0, 2, 3, 1)))
            found = function(values).numpy().astype(np.float32)
        found[..., :4] *= np.array([width, height, width, height], np.float32)
        return found

    return run


def runtime_of(path: Path, run: Callable[[np.ndarray], np.ndarray], images: Any, table: Any, facts: Facts) -> Runtime:
    """Return the Runtime of a function of TensorFlow.

    Args:
        path: its file, for errors.
        run: see ``as_run``.
        images: shape of the input, with None for axes that are open.
        table: shape of the output.
        facts: of the file.
    """
    batch, height, width, _ = images.as_list()
    columns = table.as_list()[-1]
    if columns is not None and columns < DETECTION_COLUMNS:
        raise UserError(f"'{path}' is no detector of YOLOv5: {columns} values a box")
    classes = None if facts.get("nms") or columns is None else columns - 5
    return Runtime(run, facts, batch, (height, width) if height and width else None, classes)
