"""Cross-validation: a working folder for each fold, and the scores of all folds pooled."""
