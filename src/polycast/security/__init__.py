"""Security rules that several layers share, each in one place. No I/O."""
