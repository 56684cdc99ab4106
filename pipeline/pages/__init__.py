"""What people look at: the card, tiles, plots; computes nothing that is not in a file."""
