"""The errors a user can cause or meet, each saying the value found, the one expected and the place."""

from __future__ import annotations

# What a command ends with. 1 is an answer: a threshold or claim is missed, or something is not as it was.
PASSED, DIFFERS, COULD_NOT_RUN = 0, 1, 2
# Of a line that a person reads; more is a stranger's value that nobody thought could be so long.
MOST_CHARACTERS = 2000


class HarnessError(Exception):
    """It could not run; the command line ends with exit code 2."""

    exit_code = COULD_NOT_RUN

    def __init__(self, message: str = "") -> None:
        """Take the message, each of its lines cut where nobody would read on."""
        most = MOST_CHARACTERS
        lines = (line if len(line) <= most else f"{line[:most]}..." for line in message.split("\n"))
        super().__init__("\n".join(lines))


class ManifestError(HarnessError):
    """An experiment's manifest has an unknown key, a wrong type or a contradiction."""


class LockError(HarnessError):
    """A lock is missing, malformed or belongs to another manifest."""


class SourceError(HarnessError):
    """A model or data file cannot be had, or is not the file that was locked."""


class DataError(HarnessError):
    """Rows, qrels or runs break a rule that retrieval evaluation needs."""


class TrainingError(HarnessError):
    """Training cannot go on, for instance because the loss is not a number."""


class StoreError(HarnessError):
    """The store cannot be read or written."""


class RecordError(HarnessError):
    """A record is malformed, of an unknown version or holds a value that is not finite."""


class StatisticsError(HarnessError):
    """A statistic was asked of too few or unusable values."""


class ThresholdMissed(HarnessError):  # noqa: N818 - an outcome, not a fault
    """A measured value does not meet the bound that the manifest declares."""

    exit_code = DIFFERS


class ClaimMissed(HarnessError):  # noqa: N818 - an outcome, not a fault
    """A published value is not what the records say."""

    exit_code = DIFFERS


class StackError(HarnessError):
    """A stack of other package versions cannot be made or used."""


class PublishError(HarnessError):
    """What should be published is not there or not whole, or the hub does not take it."""
