"""Reading the stored messages of a room."""
