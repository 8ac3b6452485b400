"""Turns COLLADA 1.4 and 1.5 documents into `Clip`s with the project's own parser and evaluator."""
