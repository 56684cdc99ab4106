"""What a prediction is worth: scores, calibration, intervals, post-processing."""
