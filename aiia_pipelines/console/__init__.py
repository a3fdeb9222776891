"""What this product adds to the Dagster web server, in the same process and on the same port."""
