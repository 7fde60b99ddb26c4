"""The doctor examines a data set before training does: ``python -m utils.data.doctor DATA.yaml``."""

from utils.data.doctor.command import DoctorOptions, main, run

__all__ = ["DoctorOptions", "main", "run"]
