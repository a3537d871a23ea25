"""Programs that serve calandria.learning."""
