"""What a stranger can check, and what is published."""
