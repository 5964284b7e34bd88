"""Invitations to rooms, by e-mail address."""
