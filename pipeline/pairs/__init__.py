"""A case -> pairs of image and mask, their files, their manifest and the names in it."""
