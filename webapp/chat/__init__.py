"""Posting messages, and the ticket to the socket that shows them."""
