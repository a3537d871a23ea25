"""Clusters and machines: runs and their locks, container images."""
