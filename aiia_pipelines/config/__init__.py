"""What is asked for: settings, connector files and secret references."""
