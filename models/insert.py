"""Insert layers into a model YAML: ``python -m models.insert BASE.yaml --insert NAMAttention@23 -o OUT.yaml``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.files import find_file, read_yaml, write_yaml
from utils.options import make_options, option, run_command


@dataclass
class InsertOptions:
    """Options of the command."""

    base: str = option("", "model YAML to start from", positional=True)
    insert: list[str] = option(
        [], "Layer@place: NAMAttention@23, @4,6,9, @C3 or @before-Detect; options in parentheses", action="extend"
    )
    output: str = option("", "YAML file to write", "-o")
    plugins: list[str] = option([], "Python files with layers of your own", action="extend")


def main(options: InsertOptions) -> Path:
    """Write the YAML and print the table of its layers."""
    from models.insertion import insert_layers
    from models.plugins import load_plugins
    from models.summary import describe_model
    from models.yolo import Model
    from utils.log import LOGGER, set_up_logging

    set_up_logging()
    if not options.output:
        raise UserError("name the file to write with -o OUT.yaml")
    if not options.insert:
        raise UserError("say what to insert with --insert Layer@place, such as NAMAttention@23")
    load_plugins(options.plugins)
    base, output = find_file(options.base, "model YAML"), Path(options.output)
    if output.resolve() == base.resolve():
        raise UserError(f"-o '{output}' is the YAML to start from; name another file")
    config = insert_layers(read_yaml(base), options.insert, base.name)
    result = f"{base.name} with {' '.join(options.insert)}"
    describe_model(Model(config, source=result))
    write_yaml(output, config)
    LOGGER.info(f"{output} is {result}")
    return output


def run(**options: Any) -> Path:
    """Insert from Python: ``run(base="yolov5s.yaml", insert="NAMAttention@23", output="out.yaml")``."""
    return main(make_options(InsertOptions, options))


if __name__ == "__main__":
    run_command("models.insert", InsertOptions, main, __doc__)
