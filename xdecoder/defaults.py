"""What holds where nobody says otherwise, in Python, on the command line, in the page and over HTTP alike."""

LEAST_SCORE = 0.5
"""Of an instance, to be told or drawn; scores that are to be measured are asked for from 0 on."""
