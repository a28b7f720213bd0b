"""Django's PostgreSQL backend, with a limit on how long a query may wait for its answer."""
