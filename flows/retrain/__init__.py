"""Retraining on new crawls, and the comparison of champion and challenger."""
