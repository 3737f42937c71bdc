"""Kills, corrupts and fills disks, then looks whether anything was lost or silently wrong."""
