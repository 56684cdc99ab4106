"""Batches, losses, metrics, checkpoints and devices: what a training is made of."""
