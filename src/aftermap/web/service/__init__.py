"""`aftermap serve`: uploads, jobs, maps and their tiles over HTTP, for one person on one machine or for a team."""
