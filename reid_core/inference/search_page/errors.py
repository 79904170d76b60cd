"""What the page refuses: a status for the program, one line for the person."""


class RefusedRequestError(Exception):
    """A request that is answered with `status` (HTTP) and the one line `message`, which must tell no path."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status, self.message = status, message
