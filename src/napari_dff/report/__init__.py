"""Reports of results: collected as plain data, and written as HTML and PDF."""
