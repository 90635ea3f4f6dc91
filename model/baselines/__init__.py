"""Baselines that NMCL is compared with: those of the paper, and common present-day choices."""
