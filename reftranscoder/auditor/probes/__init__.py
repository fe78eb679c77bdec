"""The cases that an implementation is tried on, in memory and on disk.  Read in this order:

- ``numbers.py``: what a probe is made of.
- ``every_feature.py``: probes in which every feature is selected.
- ``thresholds.py``: thresholds on either side of what they are compared with.
- ``probe_kinds.py``: the kinds of numbers, each to show one sort of mistake.
- ``probe_set.py``: a case of every kind for every variant of the transcoder.
- ``case_file.py``: a case in one file.
- ``case_folder.py``: cases in a folder, for implementations in any language.
- ``instructions.py``: what such an implementation is told.
"""
