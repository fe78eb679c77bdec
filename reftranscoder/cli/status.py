"""The exit statuses of the command line."""

OK = 0
FAILED = 1  # a check failed
UNUSABLE = 2  # the input or the options cannot be used
READER_GONE = 141  # nobody reads our output any more: 128 + SIGPIPE


def of_signal(number: int) -> int:
    """Of a run that a signal ended, as shells have it: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + number
