"""What listens to training: console, CSV file, plots."""
