"""What the words that look into a running system have in common; no word changes it."""
