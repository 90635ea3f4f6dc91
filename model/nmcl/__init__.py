"""NMCL as defined by the paper's equations, and the stacked ensemble built on it."""
