"""The version of the toolkit, in one place."""

VERSION = "0.3.0"
