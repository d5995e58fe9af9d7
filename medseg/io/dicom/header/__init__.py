"""One DICOM file's header: what it says of place, size, kind and coding; bounded, and nothing about the patient."""
