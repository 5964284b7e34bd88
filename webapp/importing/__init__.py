"""`chatbus import`: chat logs from elsewhere, published as events with their original times."""
