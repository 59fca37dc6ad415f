"""All cores: a supervisor and its worker processes, each of them a whole server with an event loop of its own."""
