"""What several tests need: a tiny model, records, a hub server."""
