"""What all chatbus processes share: names, events, publishing, consuming, the room log."""
