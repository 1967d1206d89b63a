"""Why servers cannot be used: of one, and of all of them in one sentence."""

from __future__ import annotations

from collections.abc import Sequence

from coterie_protocol.errors import CoterieError, ErrorCode

from .errors import NO_MAJORITY, RETRIABLE, ClientError, Unavailable, translate

REMEDY = "start a local ring with coterie up, or set COTERIE_SERVERS to your ring's addresses"
_OF_THE_RING = RETRIABLE - {ErrorCode.SHUTTING_DOWN}
"""What a node answers for the ring, not for itself."""


class ServerProblem(Exception):
    """Why one server could not be used. `lasting` says that trying again at once is pointless.

    `answer`: it is a node and could be reached, and that is what it answered.
    """

    def __init__(
        self, url: str, reason: str, *, lasting: bool, remedy: str = "", answer: CoterieError | None = None
    ) -> None:
        super().__init__(f"{url}: {reason}")
        self.url = url
        self.reason = reason
        self.lasting = lasting
        self.remedy = remedy
        self.answer = answer


def no_server(problems: Sequence[ServerProblem]) -> ClientError:
    """Say why no server could be used. What one says that answers for the ring counts for more than others' silence."""
    answers = [problem.answer for problem in problems if problem.answer and problem.answer.wire_code in _OF_THE_RING]
    if answers and not any(problem.remedy for problem in problems):
        return translate(max(answers, key=lambda error: error.detail.startswith(NO_MAJORITY)))
    return Unavailable(f"{_unusable(problems)}; {next((p.remedy for p in problems if p.remedy), REMEDY)}")


def _unusable(problems: Sequence[ServerProblem]) -> str:
    first = problems[0]
    if len(problems) == 1:
        return f"cannot use the server {first.url}: {first.reason}"
    reasons = sorted({problem.reason for problem in problems})
    return f"none of the {len(problems)} servers can be used (from {first.url}): {'; '.join(reasons)}"
