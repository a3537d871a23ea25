"""Latent features of mini-volumes, and the volumes rebuilt from them."""
