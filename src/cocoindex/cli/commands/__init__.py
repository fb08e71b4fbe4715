"""One module per sub-command; each offers ``command``."""
