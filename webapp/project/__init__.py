"""The Django project: settings, URLs, the HTTP server, and what all apps share."""
