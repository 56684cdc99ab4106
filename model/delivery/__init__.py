"""What predict writes of a scan: label maps, DICOM SEG, tables, pages."""
