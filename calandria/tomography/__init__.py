"""Image stacks to labelled volumes and to tables of mini-volumes."""
