"""Make a data set of another format a YOLO data set: ``python -m utils.data.convert voc VOCdevkit datasets/voc``."""

from utils.data.convert import ConvertOptions, main
from utils.options import run_command

if __name__ == "__main__":
    run_command("convert", ConvertOptions, main, __doc__)
