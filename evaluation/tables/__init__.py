"""Results become tables and pages."""
