"""``python -m bench``: verify, then time, then print the ratio.

A contest is a set of contestants that do the same work (`contest`).  There are two kinds: `pairs`,
a kernel against its reference, one for each row of `reftranscoder.twins.TWINS`; and `races`,
whatever a user would pick instead (`peers`) and the limit that the machine sets, at the same work
as ours.  Nothing is timed before it was seen to be right.
"""
