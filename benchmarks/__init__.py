"""What is measured: experiments, and the pytest cases that run them."""
