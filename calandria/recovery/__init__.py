"""Spheres from labelled frames: the inverse of voxelizing."""
