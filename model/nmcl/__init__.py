"""NMCL, by the paper's equations, and what is stacked on it."""
