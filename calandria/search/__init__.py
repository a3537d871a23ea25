"""Optuna studies that any number of workers run together and that survive the death of any of them."""
