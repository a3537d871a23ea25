"""Programs of the stage ``report``."""
