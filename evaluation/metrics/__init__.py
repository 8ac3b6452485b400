"""The metrics of the tables, each a class with a name, a direction and a definition."""
