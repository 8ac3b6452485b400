"""Turns animated assets into WebDataset shards, on Ray. Data flows through remote, places, sources, filters, plan,
work and shards; report and verify read the result.

Import names from their modules (`helix4d.curation.shards.reader`, ...): a Ray worker or a reader of shards then loads
only what it uses.
"""
