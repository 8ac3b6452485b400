"""Names of the files and folders in an output."""

from __future__ import annotations

SPLITS = ("train", "val", "test")
"""Folders of the shards, in the order of the plan."""
PLAN_FILE = "plan.json"
SECRETS_FILE = ".urls.json"
"""URLs whose secrets the plan hides. Never published."""
LEDGER_FILE = "ledger.jsonl"
LEDGER_PIECES = "ledger"
"""Folder of the numbered pieces of a ledger at a URL, until the run ends and they are merged into one file."""
SUMMARY_FILE = "summary.json"
CONTACT_SHEET_FILE = "contact_sheet.webp"
INDEX_FOLDER = "index"
"""Folder of the Parquet files with a row per sample."""
REPORT_FOLDER = "report"
PICTURES_FOLDER = "pictures"
"""Folder of the pictures, inside the report."""
WORK_FOLDER = "work"
"""Folder of the parts of shards that are not complete yet."""
