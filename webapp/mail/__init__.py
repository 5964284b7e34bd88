"""Mails wait in the database until a mail server, or a folder, has taken them."""
