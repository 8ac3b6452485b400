"""An output becomes something to read: summaries, a page that plays, a data card."""
