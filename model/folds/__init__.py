"""Trainings in working folders of their own: folds, whose scores are pooled, and fewer patients."""
