"""What the studio does not do, as a sentence for people and a word for programs."""

from ..errors import UserError


class Refused(UserError):
    """A request that cannot be granted.

    Attributes:
        code: a word for programs, such as "superseded" or "unknown_model".
        status: of the HTTP answer.
    """

    def __init__(self, sentence: str, code: str = "invalid", status: int = 422) -> None:
        super().__init__(sentence)
        self.code, self.status = code, status


def unknown(what: str, sentence: str) -> Refused:
    """Something that is named and that there is not.

    >>> unknown("pin", "There is no such pin.").code
    'unknown_pin'
    """
    return Refused(sentence, f"unknown_{what}", 404)
