"""The errors of Similarity, one small tree.

All layers raise these; the edge (command line, service) turns them into one line or one problem document. A
message says what happened, to which item, and what to do.
"""


class SimilarityError(Exception):
    """A job stopped. `exit_code`: exit status of the command line."""

    exit_code = 1


class UsageError(SimilarityError):
    """The request itself is wrong: an unknown field, a bad value, a malformed source."""

    exit_code = 2


class CorpusError(SimilarityError):
    """A source as a whole cannot be read: a missing table, another set's folder, a bad column."""


class UnreadableImage(CorpusError):
    """One image cannot be turned into pixels; the message names the reason, never the patient."""


class NotAdmitted(CorpusError):
    """One image can be read but is not what the corpus admits (not a chest radiograph by its header)."""


class WorkerNotStarted(SimilarityError):
    """A process that decodes images or computes for a request cannot be started."""


class EncoderError(SimilarityError):
    """An encoder folder is missing, incomplete, edited, or does not fit the request."""


class TrainingError(SimilarityError):
    """A training run cannot start, resume or go on."""


class EvaluationError(SimilarityError):
    """The data given do not allow a fair evaluation."""


class NotInstalled(SimilarityError):
    """A package is not installed that only some commands need; the message has the line that installs it."""


class IndexingError(SimilarityError):
    """The index cannot do what was requested."""


class MissingCollection(IndexingError):
    """The vector store has no collection of this name: nothing of its kind was indexed, or it was lost."""


class IndexInUse(IndexingError):
    """Another process owns the embedded index; the message says which."""


class LeaseLost(IndexingError):
    """A run was silent for so long that another replaced it; what it committed is safe."""


class OwnerGone(IndexingError):
    """The service that owned the index ended while this process worked through it; finished work is safe."""


class FingerprintMismatch(IndexingError):
    """Vectors of two different encoders would be mixed."""


class EmptyIndex(IndexingError):
    """Nothing has been indexed yet."""


class ReadOnlyIndex(IndexingError):
    """The index was opened for reading, and a call would have written to it."""


class HomeError(SimilarityError):
    """The home folder cannot be used: read-only, full, or open to others."""


class KeyMismatch(HomeError):
    """The home has another key than the one that the index was made with."""


class WrongVectors(HomeError):
    """Catalog and vectors are of two different indexes; nothing was read or written."""


class ServerUnavailable(HomeError):
    """A server of the index (Qdrant, Postgres) does not answer, or refuses a request.

    `server`: its kind.
    `away`: whether the same call may succeed later, when the server is back.
    """

    def __init__(self, message: str, server: str = "Qdrant", *, away: bool = False) -> None:
        super().__init__(message)
        self.server, self.away = server, away


class ExportError(SimilarityError):
    """An answer cannot be written in the requested form: the source or the disk does not allow it."""
