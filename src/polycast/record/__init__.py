"""Recording of streams to disk: the files and their names, the recorder, and the deletion of what is old."""
