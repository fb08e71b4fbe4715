"""The command line, ``cocoindex`` or ``python -m cocoindex``. The only room that prints."""
