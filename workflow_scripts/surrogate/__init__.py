"""Programs of the stage ``surrogate``."""
