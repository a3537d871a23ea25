"""Programs of the stage ``calendering``."""
