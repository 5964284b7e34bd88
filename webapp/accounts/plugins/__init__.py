"""What the settings name for Django and django-allauth to call in place of their own."""
