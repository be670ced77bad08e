"""Failures in the middle of a run as one line that a person can act on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from recbench.core.errors import UserError, memory_error


@contextlib.contextmanager
def plain_failures(what: str) -> Iterator[None]:
    """Scores that cannot be ranked, and a lack of memory, as UserError of one line. what: is being made, such as a run's key."""
    from recbench.evaluation.ranking import ScoreError

    try:
        yield
    except ScoreError as error:
        raise UserError(
            f"{what} gives scores that cannot be ranked: {error}; train it with a lower training.lr or with "
            "training.gradient_clip=1, or mend the model"
        ) from error
    except Exception as error:
        short = memory_error(error, what)
        if short is None:
            raise
        raise short from error
