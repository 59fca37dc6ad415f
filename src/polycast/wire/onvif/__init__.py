"""ONVIF: the messages by which cameras are found, asked for their streams, and moved. No input and output."""
