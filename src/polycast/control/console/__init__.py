"""What the console in the browser needs beyond the rest of the API: state, history, pictures, the log, the settings."""
