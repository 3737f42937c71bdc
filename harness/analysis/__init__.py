"""Statistics, from records to verdicts: no files, no torch."""
