"""A model file and a scan -> class probabilities and class ids in the scan's own grid."""
