"""What the labels of train obey: planes that divide classes, classes in others, single pieces."""
