"""The HTTP server: connections for HTTP/1.1 and HTTP/2, plain or in TLS, and what handlers of requests share."""
