"""A study: the settings of all stages, the sheets that they name, and the list of stages."""
