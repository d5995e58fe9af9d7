from __future__ import annotations

import threading
import warnings

import pytest
from pydicom import config

from medseg.io.dicom.quiet import quiet


def test_nothing_is_heard_inside_and_all_is_restored():
    before = (list(warnings.filters), config.settings.reading_validation_mode)
    with quiet():
        warnings.warn("unheard", stacklevel=1)
        assert config.settings.reading_validation_mode == config.IGNORE
    assert (list(warnings.filters), config.settings.reading_validation_mode) == before
    with pytest.warns(UserWarning, match="heard"):
        warnings.warn("heard", stacklevel=1)


def test_an_error_restores_too():
    before = list(warnings.filters)
    with pytest.raises(RuntimeError), quiet():
        raise RuntimeError
    assert list(warnings.filters) == before


def test_readers_in_several_threads_leave_it_as_it_was():
    before = (list(warnings.filters), config.settings.reading_validation_mode)
    inside, done = threading.Barrier(3), threading.Event()

    def read():
        with quiet():
            inside.wait()
            done.wait()

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    inside.wait()
    with quiet():
        done.set()
        for thread in threads:
            thread.join()
        warnings.warn("still unheard", stacklevel=1)
    assert (list(warnings.filters), config.settings.reading_validation_mode) == before
