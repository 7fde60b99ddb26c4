"""Examine a data set: ``python -m utils.data.doctor DATA.yaml``. Exit code 1 when something is wrong with it."""

from utils.data.doctor import DoctorOptions, main
from utils.options import run_command

if __name__ == "__main__":
    run_command("utils.data.doctor", DoctorOptions, main, __doc__)
