"""SRT (draft-sharabayko-srt-01): live transmission over UDP with retransmission, constant delay and encryption."""
