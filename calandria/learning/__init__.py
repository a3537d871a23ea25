"""What all networks share: settings, the training loop, checkpoints, devices, processes."""
