"""TensorFlow.js: a folder with ``model.json`` and weights, for browsers. Nothing here can run it."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from models.formats import graphdef
from models.formats.exported import CannotRunHere, Runtime
from models.formats.facts import Facts
from models.formats.saved_model import write_facts as write_facts_beside
from models.formats.settings import ExportSettings, LoadSettings
from models.yolo import Model
from utils.errors import UserError

CONVERTER = "tensorflowjs_converter"
MOST_LINES = 3  # of the converter's complaint


def export(model: Model, path: Path, settings: ExportSettings) -> None:
    """Write a network for TensorFlow.js; inputs and outputs as in a GraphDef.

    The converter is a command, so that it can live in an environment of its own: it wants older packages.

    Raises:
        ImportError: litert-torch or tensorflow is not installed.
        UserError: the converter is not there, or fails.
    """
    converter = shutil.which(CONVERTER)
    if converter is None:
        raise UserError(
            f"TensorFlow.js needs the command {CONVERTER} on the PATH; it goes into an environment of its own: "
            'pip install tensorflowjs, then pip install "protobuf>=6.31"'
        )
    with tempfile.TemporaryDirectory() as folder:
        frozen = Path(folder) / "model.pb"
        graphdef.export(model, frozen, settings)
        output = graphdef.OUTPUT.partition(":")[0]
        run_tool([converter, "--input_format=tf_frozen_model", f"--output_node_names={output}", str(frozen), str(path)])


def run_tool(command: list[str]) -> None:
    """Run another program.

    Raises:
        UserError: it fails; with its last lines.
    """
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        lines = (result.stderr or result.stdout).strip().splitlines()[-MOST_LINES:]
        raise UserError(f"{Path(command[0]).name} failed: {' '.join(lines)}")


def write_facts(path: Path, facts: Facts) -> None:
    """Put facts beside the graph."""
    write_facts_beside(path, facts)


def load(path: Path, settings: LoadSettings) -> Runtime:
    """Refuse: only JavaScript runs these."""
    raise CannotRunHere(f"'{path}' runs in browsers only, by TensorFlow.js; name the .pt file it was exported from")
