"""A server that runs each job of a workflow in a fork of itself, and the client in which each job starts."""
