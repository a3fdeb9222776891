"""How an installation looks after itself: its health check, and what it removes because nobody needs it any more."""
