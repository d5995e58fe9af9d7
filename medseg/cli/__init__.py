"""The command line: parse, call a verb, print. The only reader of the environment and the only print."""

from __future__ import annotations

from medseg.cli.app import main

__all__ = ["main"]
