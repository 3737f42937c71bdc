"""One document, many renderers, and the experiment's own report."""
