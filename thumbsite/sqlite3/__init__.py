"""Django's SQLite backend, with a database that other users of the machine cannot read."""
