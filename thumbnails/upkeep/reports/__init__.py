"""What there is and what is wrong with it: counts, audit, health."""
