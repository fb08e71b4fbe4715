"""What tests of programs, connectors and the engine itself share."""

from cocoindex.testing.checks import Finding, Severity, fsck

__all__ = ["Finding", "Severity", "fsck"]
