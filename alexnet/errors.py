"""What a user can mend."""


class UserError(ValueError):
    """Something that the user asked for cannot be had; the message, one line, says why and what to do."""
