"""The ``calandria`` command, one module per subcommand, and what every program shares."""
