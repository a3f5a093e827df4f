"""Masks as other systems take them: pictures, run lengths, DICOM."""
