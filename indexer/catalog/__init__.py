"""The catalog: the only package with SQL and a database engine."""
