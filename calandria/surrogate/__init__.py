"""The next frame of a film that is being calendered, from a window of past ones."""
