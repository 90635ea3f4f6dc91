"""Self-contained HTML pages: of a run, of a retraining, of a study, and the gallery."""
