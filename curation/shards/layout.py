"""Names of the files and folders of an output."""

from __future__ import annotations

SPLITS = ("train", "val", "test")
"""Folders of the shards, in the order in which they are planned."""
PLAN_FILE = "plan.json"
LEDGER_FILE = "ledger.jsonl"
LEDGER_PIECES = "ledger"
"""Folder of the numbered pieces that a ledger behind a URL gains, until the run ends and it becomes one file."""
SUMMARY_FILE = "summary.json"
CONTACT_SHEET_FILE = "contact_sheet.webp"
REPORT_FOLDER = "report"
PICTURES_FOLDER = "pictures"
"""Of the report."""
WORK_FOLDER = "work"
"""Parts of shards that are not complete yet."""
