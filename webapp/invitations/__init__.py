"""Inviting people to rooms."""
