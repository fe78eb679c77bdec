"""Files as containers: told apart, read with suspicion, written all or nothing.

What a file of ours *means* stands where it is used: ``formats/`` for transcoders,
``training/checkpoint.py`` for runs, ``auditor/`` for cases.
"""
