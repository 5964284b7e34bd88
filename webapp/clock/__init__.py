"""One time line for all processes that make ids, kept by the database that they share."""
