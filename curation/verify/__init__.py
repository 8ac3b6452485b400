"""Checks an output and lists its problems, each with the commands that repair it."""
