"""Publishing to other servers: clients that read a path of the hub and send it on."""
