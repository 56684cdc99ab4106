"""Virtual cohorts: patients derived from the MNI152 template."""
