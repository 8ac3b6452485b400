"""Turns COLLADA 1.4 and 1.5 documents into `Clip`s with a parser and an evaluator of their own."""
