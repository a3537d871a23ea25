"""Programs of the stage ``autoencoder``."""
