"""Programs of the stage ``tomography``."""
