"""The helix4d command: one thin file per subcommand."""
