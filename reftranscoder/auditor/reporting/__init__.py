"""What an audit found: in words, in plain values, and as a page."""
