"""What is kept of a trial, and how a value follows from it."""
