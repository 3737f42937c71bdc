"""A trial from sources to record: prepare, baseline, train, evaluate."""
