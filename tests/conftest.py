"""Examples that hypothesis draws are the same on every machine and at every run; programs that tests start can be interrupted."""

import signal

from hypothesis import settings

settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")

# shells ignore Ctrl-C in what they start in the background, and so would all programs that the tests start
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
