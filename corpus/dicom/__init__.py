"""DICOM files: header, pixels, display values, orientation and spacing."""
