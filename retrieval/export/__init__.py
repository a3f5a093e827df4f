"""Answers as other systems take them: PNG, run lengths, DICOM."""
