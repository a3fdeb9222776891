"""What runs on this machine for `aiia up`: a PostgreSQL from a wheel, and watched processes."""
