"""Reading foreign DICOM without a word from pydicom: its warnings are silenced while any reader of ours is at work.

Hospital files break the letter of the standard all the time (a UID with a leading zero, a text too long), and pydicom
warns about each. What matters is checked by us and said as a finding. Filters of warnings and pydicom's settings belong
to the whole process, so the first reader in sets them and the last one out restores them, whatever the thread.
"""

from __future__ import annotations

import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pydicom import config

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Quiet:
    """Counts the readers at work; holds the settings to restore."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers = 0
        self._warnings = warnings.catch_warnings()
        self._validation = config.IGNORE

    def enter(self) -> None:
        """Silence at the first reader."""
        with self._lock:
            if self._readers == 0:
                self._warnings = warnings.catch_warnings()
                self._warnings.__enter__()
                warnings.simplefilter("ignore")
                self._validation = config.settings.reading_validation_mode
                config.settings.reading_validation_mode = config.IGNORE
            self._readers += 1

    def leave(self) -> None:
        """Restore after the last reader."""
        with self._lock:
            self._readers -= 1
            if self._readers == 0:
                config.settings.reading_validation_mode = self._validation
                self._warnings.__exit__(None, None, None)


_QUIET = _Quiet()  # process-wide because what it guards is


@contextmanager
def quiet() -> Iterator[None]:
    """Silence pydicom and highdicom inside the block, in every thread.

    Examples
    --------
    >>> import warnings
    >>> with quiet():
    ...     warnings.warn("a value of VR UI is invalid")
    """
    _QUIET.enter()
    try:
        yield
    finally:
        _QUIET.leave()
