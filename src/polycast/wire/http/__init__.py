"""HTTP engines: the server's side of HTTP/1.1 and HTTP/2 connections."""
