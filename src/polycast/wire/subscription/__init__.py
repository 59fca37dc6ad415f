"""The subscription: how a node gets the stream of a path from the node that owns it, over TCP or a Unix socket."""
