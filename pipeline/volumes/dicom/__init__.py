"""DICOM series: headers and pixels of files, the rules of a sound series, and its volume."""
