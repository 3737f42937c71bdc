"""Benchmark and reproducibility harness for fine-tuned retrieval embeddings."""

__version__ = "0.1.0"
