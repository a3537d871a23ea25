"""Programs that serve calandria.study."""
