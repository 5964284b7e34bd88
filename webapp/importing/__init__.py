"""`chatbus import`: publishes chat logs of other systems as events with their original times."""
