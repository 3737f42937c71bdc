"""Modules alone, without torch, in seconds."""
