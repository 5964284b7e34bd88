"""The words of the ``chatbus`` command, a module each."""
