"""How benches measure and what they tell, and those that need neither extractors nor models."""
