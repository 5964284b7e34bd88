from django.apps import AppConfig


class ProjectConfig(AppConfig):
    """Registered for its base templates and static files; it has no models."""

    name = "webapp.project"
