"""Feature extraction: one file per modality, each with settings and two pure functions, `fit` and `extract`."""
