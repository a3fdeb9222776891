"""What one refresh does: convert, check, stage, match, reconcile, commit."""
