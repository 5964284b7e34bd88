"""Limits: how often a person, an IP address or a room may do something."""
