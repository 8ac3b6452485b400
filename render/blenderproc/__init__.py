"""Renders with Cycles through BlenderProc, for its HDF5 files."""
