"""medseg in napari: open, segment and review scans where they lie in the patient.

`napari.yaml` is the manifest; it points at `napari_plugin.contributions` and the docks. What can be said without a
window (`display`, `bridge`, `contrast`, `suitability`, `region`, `session`) imports no Qt.
"""
