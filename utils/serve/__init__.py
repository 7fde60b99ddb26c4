"""Detection as a web page and a JSON endpoint: ``python -m utils.serve --weights W``."""
