"""Reads the stored messages of a room."""
