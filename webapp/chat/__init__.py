"""Posts messages, and issues tickets for the sockets that receive them."""
