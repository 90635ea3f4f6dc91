"""How a clip becomes a vector: one file per modality, each settings and two pure functions, `fit` and `extract`."""
