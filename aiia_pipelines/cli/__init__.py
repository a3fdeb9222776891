"""The command `aiia`: one module for each noun, imported when its command runs."""
