"""Programs of the stage ``transport``."""
