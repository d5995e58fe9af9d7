"""The real dock in a real, shown window, driven by mouse and keys."""

from __future__ import annotations

import time

import numpy as np
import pytest

from medseg.inference import Segmenter
from medseg.io.dicom import write_series
from napari_plugin.bridge import image_layers, segmentation_of

pytestmark = pytest.mark.gui
LONG_MS = 60_000


@pytest.fixture
def dicom(tmp_path, torso):
    write_series(torso.volume, tmp_path / "dicom")
    return tmp_path / "dicom"


def loaded(qtbot, dock, model):
    dock.load(model.folder)
    qtbot.waitUntil(lambda: dock.session.model is not None and not dock.session.is_busy, timeout=LONG_MS)


def add_scan(viewer, volume):
    (layer,) = image_layers(volume, name="scan", modality="CT")
    return viewer.add_image(layer.array, **layer.arguments)


def press(qtbot, button):
    from qtpy.QtCore import Qt

    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def test_from_a_dicom_folder_to_a_mask(qtbot, window, dicom, torso, model):
    viewer, dock = window
    viewer.open(str(dicom), plugin="medseg")
    assert not dock.run.isEnabled()
    loaded(qtbot, dock, model)
    assert "liver" in dock.models.card.text()
    assert dock.images.verdict.text() == "Fits the model."
    press(qtbot, dock.run)
    qtbot.waitUntil(lambda: dock.table.rowCount() > 0, timeout=LONG_MS)
    mask = viewer.layers[-1]
    truth = Segmenter.load(model.folder, device="cpu").segment(torso.volume).segmentation
    np.testing.assert_array_equal(segmentation_of(mask).array, truth.array)
    assert mask.metadata["medseg"].series is not None
    assert dock.table.item(0, 0).text() == "liver"
    qtbot.wait(200)
    picture = viewer.screenshot(canvas_only=True, flash=False)
    assert picture.std() > 5
    assert len(np.unique(picture.reshape(-1, picture.shape[-1]), axis=0)) > 50


def test_cancelled_midway_and_run_again(qtbot, window, torso, model, slow_model):
    viewer, dock = window
    add_scan(viewer, torso.volume)
    loaded(qtbot, dock, slow_model)
    press(qtbot, dock.run)
    qtbot.waitUntil(lambda: dock.session.step.stage == "network" and dock.session.step.done > 0, timeout=LONG_MS)
    assert "left" in dock.status.text()
    assert not dock.run.isEnabled()
    press(qtbot, dock.cancel)
    qtbot.waitUntil(lambda: not dock.session.is_busy, timeout=LONG_MS)
    assert [layer.name for layer in viewer.layers] == ["scan"]
    loaded(qtbot, dock, model)
    qtbot.waitUntil(lambda: dock.session.model.folder == model.folder and not dock.session.is_busy, timeout=LONG_MS)
    press(qtbot, dock.run)
    qtbot.waitUntil(lambda: dock.table.rowCount() > 0, timeout=LONG_MS)
    assert len(viewer.layers) == 2


def by_tab(first, last):
    """Return what Tab goes through; a screen without a window manager gives no window the keyboard."""
    from qtpy.QtCore import Qt

    seen = [first]
    while seen[-1] is not last and len(seen) < 200:
        seen.append(seen[-1].nextInFocusChain())
    return [widget for widget in seen if widget.isEnabled() and widget.focusPolicy() & Qt.FocusPolicy.TabFocus]


def test_by_keys_alone(qtbot, window, torso, model):
    """Tab reaches every control; Space presses Run; Enter jumps to a label's largest slice."""
    from qtpy.QtCore import Qt

    viewer, dock = window
    add_scan(viewer, torso.volume)
    loaded(qtbot, dock, model)
    seen = by_tab(dock.models.folder, dock.help)
    wanted = [dock.images.channels[0], dock.images.region, dock.options.device, dock.options.mirrored, dock.run]
    assert [widget for widget in seen if widget in wanted] == wanted
    assert dock.table in seen
    qtbot.keyClick(dock.run, Qt.Key.Key_Space)
    qtbot.waitUntil(lambda: dock.table.rowCount() > 0, timeout=LONG_MS)
    dock.table.setCurrentCell(0, 0)
    qtbot.keyClick(dock.table, Qt.Key.Key_Return)
    mask = segmentation_of(viewer.layers[-1])
    slices = (mask.array == 1).sum(axis=(1, 2))
    assert slices[viewer.dims.current_step[0]] == slices.max()


def test_a_label_is_hidden_by_its_tick(qtbot, window, torso, model):
    from qtpy.QtCore import Qt

    viewer, dock = window
    add_scan(viewer, torso.volume)
    loaded(qtbot, dock, model)
    dock.start()
    qtbot.waitUntil(lambda: dock.table.rowCount() > 0, timeout=LONG_MS)
    dock.table.item(0, 0).setCheckState(Qt.CheckState.Unchecked)
    assert viewer.layers[-1].colormap.color_dict[1][3] == 0
    dock.table.item(0, 0).setCheckState(Qt.CheckState.Checked)
    np.testing.assert_allclose(viewer.layers[-1].colormap.color_dict[1][:3], np.array((178, 102, 76)) / 255, atol=1e-2)


def test_the_result_goes_to_its_scan_whatever_happens_meanwhile(qtbot, window, torso, model):
    from medseg.phantom import torso_ct

    viewer, dock = window
    first = add_scan(viewer, torso.volume)
    loaded(qtbot, dock, model)
    dock.start()
    add_scan(viewer, torso_ct(9, spacing_mm=(12.0, 9.0, 9.0)).volume)
    viewer.layers.remove(first)
    qtbot.waitUntil(lambda: dock.table.rowCount() > 0, timeout=LONG_MS)
    assert segmentation_of(viewer.layers[-1]).geometry.same_grid(torso.volume.geometry)


def test_a_scan_of_another_modality_needs_a_tick(qtbot, window, torso, model):
    from dataclasses import replace

    viewer, dock = window
    layer = add_scan(viewer, torso.volume)
    layer.metadata["medseg"] = replace(layer.metadata["medseg"], modality="MR")
    loaded(qtbot, dock, model)
    assert dock.images.verdict.text().startswith("Does not fit: ")
    assert not dock.run.isEnabled()
    dock.options.anyway.setChecked(True)
    assert dock.run.isEnabled()


def test_a_rectangle_bounds_the_run_and_names_are_followed(qtbot, window, torso, model):
    viewer, dock = window
    layer = add_scan(viewer, torso.volume)
    layer.name = "another name"
    assert dock.images.channels[0].currentText() == "another name"
    loaded(qtbot, dock, model)
    corners = layer.metadata["medseg"].display.to_world([(5, 10, 10), (5, 10, 30), (5, 30, 30), (5, 30, 10)])
    viewer.add_shapes([corners], name="box")
    dock.images.region.setCurrentIndex(1)
    assert "Region: 21 x 21 x" in dock.images.verdict.text()
    dock.start()
    qtbot.waitUntil(lambda: dock.table.rowCount() > 0, timeout=LONG_MS)
    mask = segmentation_of(viewer.layers[-1]).array.copy()
    mask[:, 10:31, 10:31] = 0
    assert not mask.any()


def test_an_error_is_a_notification_in_words(qtbot, window, tmp_path):
    from napari.utils.notifications import notification_manager

    _, dock = window
    dock.load(tmp_path)
    qtbot.waitUntil(lambda: not dock.session.is_busy, timeout=LONG_MS)
    said = str(notification_manager.records[-1].message)
    assert "card.yaml" in said
    assert "expected a model folder" in said


def test_models_used_lately_are_offered_and_one_may_be_dropped(qtbot, window, model):
    from qtpy.QtCore import QMimeData, QPoint, Qt, QUrl
    from qtpy.QtGui import QDropEvent

    _, dock = window
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(model.folder))])
    left = Qt.MouseButton.LeftButton
    dock.dropEvent(QDropEvent(QPoint(5, 5), Qt.DropAction.CopyAction, data, left, Qt.KeyboardModifier.NoModifier))
    qtbot.waitUntil(lambda: dock.session.model is not None, timeout=LONG_MS)
    qtbot.waitUntil(lambda: dock.models.recent.count() == 2, timeout=LONG_MS)
    assert model.folder.name in dock.models.recent.itemText(1)


def test_the_window_is_never_held(qtbot, window, monkeypatch, model):
    """No callback of a run takes the window's thread over 100 ms of computing, on a scan of 12 million voxels.

    What napari takes to make the mask's layer, once, whatever its size, is its own.
    """
    from medseg.geometry import Geometry
    from medseg.volume import Volume
    from napari_plugin import session as module

    taken, napari_s = [], [0.0]

    def timed(name):
        inner = getattr(module._Ear, name)

        def outer(self, what):
            begun, before = time.thread_time(), napari_s[0]
            inner(self, what)
            taken.append((time.thread_time() - begun - (napari_s[0] - before), name))

        return outer

    for name in ("reported", "handed", "ended"):
        monkeypatch.setattr(module._Ear, name, timed(name))
    viewer, dock = window
    add = viewer.add_labels

    def add_labels(*arguments, **more):
        begun = time.thread_time()
        layer = add(*arguments, **more)
        napari_s[0] += time.thread_time() - begun
        return layer

    monkeypatch.setattr(type(viewer), "add_labels", lambda _, *arguments, **more: add_labels(*arguments, **more))
    rng = np.random.default_rng(0)
    array = rng.integers(-1000, 1000, (1, 48, 512, 512), dtype=np.int16)
    grid = Geometry((48, 512, 512), np.array([[0, 0, 0.8, 0], [0, 0.8, 0, 0], [2, 0, 0, 0], [0, 0, 0, 1.0]]))
    add_scan(viewer, Volume(array, grid, ("CT",)))
    loaded(qtbot, dock, model)
    dock.start()
    qtbot.waitUntil(lambda: dock.table.rowCount() > 0, timeout=LONG_MS)
    assert {"reported", "handed", "ended"} == {name for _, name in taken}
    assert max(taken)[0] < 0.1, sorted(taken)[-5:]


def test_the_chooser_lists_what_a_folder_holds(qtbot, tmp_path, torso):
    from qtpy.QtCore import Qt
    from qtpy.QtWidgets import QDialog, QDialogButtonBox

    from medseg.io.dicom import inspect_folder
    from medseg.phantom import torso_ct
    from napari_plugin.chooser import SeriesChooser
    from napari_plugin.opening import offers_of

    write_series(torso.volume, tmp_path / "a")
    write_series(torso_ct(8, spacing_mm=(12.0, 9.0, 9.0)).volume, tmp_path / "b")
    offers = [offer for item in inspect_folder(tmp_path).items for offer in offers_of(item)]
    dialog = SeriesChooser(offers)
    qtbot.addWidget(dialog)
    dialog.show()
    ok = dialog.buttons.button(QDialogButtonBox.StandardButton.Open)
    assert not ok.isEnabled()
    qtbot.keyClick(dialog.table, Qt.Key.Key_Space)
    assert dialog.chosen == (offers[0],)
    press(qtbot, ok)
    assert dialog.result() == QDialog.DialogCode.Accepted
