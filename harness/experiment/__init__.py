"""What is declared: an experiment's data, models, recipe, measures and claims, and the lock that pins its sources."""
