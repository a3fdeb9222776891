"""Where rows come from: one file is one kind, and the file's name is the kind's name."""
