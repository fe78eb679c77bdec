"""What is audited, and against what.  Read in this order:

- ``definition.py``: what is computed, where libraries differ.
- ``stage_graph.py``: the stages, and what each reads.
- ``arithmetic.py``: the roundings that a candidate may make.
- ``problem.py``: all of these together, with parameters and a batch.
- ``candidate.py``: what somebody else computed, checked.
- ``case.py``: a problem as it is handed out, what it is for, and the answer to it.
"""
