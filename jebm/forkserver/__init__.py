"""A server that forks for each job of a workflow, and the client that each job starts as."""
