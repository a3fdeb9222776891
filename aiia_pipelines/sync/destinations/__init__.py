"""Where rows go: one file is one destination."""
