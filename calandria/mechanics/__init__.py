"""Contact mechanics of spheres under a press: laws, packings, and what follows from three frames."""
