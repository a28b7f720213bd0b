"""A folder for PYTHONPATH: what is wrong with a process of the site from its very start."""
