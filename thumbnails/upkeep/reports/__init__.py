"""Reports: counts, overview, audit, and the health of runs and of the site."""
