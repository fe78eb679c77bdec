"""``python -m bench``: verify, then time, then print the ratio.

A contest is a set of contestants that do the same work (`contest`); `pairs` makes one of each row
of `reftranscoder.twins.TWINS`.  Nothing is timed before it was seen to be right.
"""
