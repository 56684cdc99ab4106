"""Warps of pictures: pure functions of a picture and a key."""
