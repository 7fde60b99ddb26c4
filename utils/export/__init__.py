"""What export.py needs besides the formats: options, checks before any work, calibration, the proof of parity."""
