"""The one exception that a user is meant to read."""


class UserError(Exception):
    """Something the user can mend: bad input, a missing file, an impossible value.

    The message is one line that says what is wrong, where, and what to do. The command line prints it
    without a traceback and exits with code 2; a notebook sees an ordinary exception.
    """
