"""The assignment of patients to train, valid and test, and the gate that judges it."""
