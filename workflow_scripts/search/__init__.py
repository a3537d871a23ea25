"""Programs that serve calandria.search."""
