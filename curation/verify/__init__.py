"""An output becomes a list of problems, each with the commands that repair it."""
