"""The exit statuses of the command line."""

OK = 0
FAILED = 1  # a check failed
UNUSABLE = 2  # the input or the options cannot be used
INTERRUPTED = 130  # by Ctrl-C: 128 + SIGINT, as shells have it
READER_GONE = 141  # nobody reads our output any more: 128 + SIGPIPE
