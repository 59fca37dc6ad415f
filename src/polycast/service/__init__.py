"""Running as a service of the operating system: notifications, and installation."""
