"""Running as a service of the operating system: what it is told while the server runs, and how it is installed."""
