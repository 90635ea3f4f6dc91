"""One run: its plan, its stages, its evaluation and its predictions."""
