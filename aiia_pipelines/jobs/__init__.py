"""What is known about a job run: its state, badge, log, failure and history."""
