"""The one exception that means 'the user asked for something that cannot be done'."""


class UserError(ValueError):
    """A user's mistake: the commands answer it with one sentence and exit status 2.

    The message says what was wrong, what was received, and what to do.
    """
