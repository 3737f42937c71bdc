"""pytest options, fixtures and terminal summary of the harness."""
