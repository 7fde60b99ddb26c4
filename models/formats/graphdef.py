"""TensorFlow GraphDef: one file with graph and weights, input ``x:0`` and output ``Identity:0`` as v6.1 has them."""

import json
from pathlib import Path
from typing import Any

from models.formats.exported import Runtime
from models.formats.facts import Facts, tidy
from models.formats.saved_model import as_run, runtime_of
from models.formats.settings import ExportSettings, LoadSettings
from models.formats.silence import silence
from models.formats.tf_graph import convert_to_function
from models.yolo import Model
from utils.errors import UserError

INPUT, OUTPUT = "x:0", "Identity:0"
FACTS_NODE = "facts"  # a constant that nothing reads


def export(model: Model, path: Path, settings: ExportSettings) -> None:
    """Write a network as GraphDef: (B, H, W, C) images in, boxes as shares of the image out.

    Raises:
        ImportError: litert-torch or tensorflow is not installed.
        UserError: the network cannot be converted.
    """
    graph = convert_to_function(model, settings).graph.as_graph_def()
    path.write_bytes(graph.SerializeToString())


def write_facts(path: Path, facts: Facts) -> None:
    """Put facts into the graph, as a constant."""
    with silence():
        import tensorflow as tf
    graph = _read(path, tf)
    others = [node for node in graph.node if node.name != FACTS_NODE]
    kept = tf.compat.v1.GraphDef(node=others, versions=graph.versions, library=graph.library)
    node = kept.node.add(name=FACTS_NODE, op="Const")
    node.attr["dtype"].type = tf.string.as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(json.dumps(facts), tf.string))
    path.write_bytes(kept.SerializeToString())


def _read(path: Path, tf: Any) -> Any:
    graph = tf.compat.v1.GraphDef()
    try:
        graph.ParseFromString(path.read_bytes())
    except Exception as error:  # protobuf's own, which is in no public place
        raise UserError(f"'{path}' is no TensorFlow GraphDef, or it is damaged") from error
    return graph


def _facts_in(graph: Any) -> Facts:
    for node in graph.node:
        if node.name == FACTS_NODE and node.op == "Const":
            return tidy(json.loads(node.attr["value"].tensor.string_val[0]))
    return {}


def load(path: Path, settings: LoadSettings) -> Runtime:
    """Load a file of this project or of YOLOv5.

    Raises:
        ImportError: tensorflow is not installed.
        UserError: the file is damaged, or has other inputs and outputs.
    """
    with silence():
        import tensorflow as tf

        graph = _read(path, tf)
        try:
            facts = _facts_in(graph)
            wrapped = tf.compat.v1.wrap_function(lambda: tf.compat.v1.import_graph_def(graph, name=""), [])
            function = wrapped.prune(wrapped.graph.as_graph_element(INPUT), wrapped.graph.as_graph_element(OUTPUT))
        except (KeyError, ValueError, IndexError, tf.errors.OpError) as error:
            raise UserError(f"'{path}' is no graph with input '{INPUT}' and output '{OUTPUT}'") from error
    run = as_run(tf, function, settings)
    return runtime_of(path, run, function.inputs[0].shape, function.outputs[0].shape, facts)
