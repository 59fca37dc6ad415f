"""The HTTP server: connections for HTTP/1.1 and HTTP/2, plain or TLS, and what request handlers share."""
