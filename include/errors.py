"""The exceptions Labelwheel raises itself: one small tree, each message a sentence with its remedy.

``LabelwheelError``
├── ``ProjectError``      a project YAML is wrong: edit the file; a retry does not help
├── ``StorageError``      object storage refused or lost something: fix access, then retry
│   └── ``ObjectError``   one object cannot be read: it is quarantined, the run goes on
├── ``QuarantineLimitError``  too much of a batch was rejected: the good rows are already stored
├── ``LabelingError``     Argilla refused, is away, or differs from the project file
└── ``TrainingError``     a snapshot, model or pointer is not what it claims to be
"""


class LabelwheelError(Exception):
    """Base of every error Labelwheel raises; ``str()`` is one sentence and what to do next.

    :param what: what happened, and to which object or field.
    :param remedy: what the reader should do next, as an imperative sentence.
    """

    def __init__(self, what: str, *, remedy: str) -> None:
        super().__init__(f"{what.rstrip('.')}. {remedy}")
        self.what = what
        self.remedy = remedy


class ProjectError(LabelwheelError):
    """A project file cannot be used. A retry does not help; the file must change."""


class StorageError(LabelwheelError):
    """Object storage is unreachable, refuses us, or breaks a promise we rely on. A retry may help."""


class ObjectError(StorageError):
    """One source object cannot be read as what it claims to be. A retry does not help; replace the object."""


class QuarantineLimitError(LabelwheelError):
    """More of a batch was rejected than the project allows. Good rows are stored; a retry does not help."""


class LabelingError(LabelwheelError):
    """Argilla is away, refused a request, or holds a dataset unlike the project file. A retry may help."""


class TrainingError(LabelwheelError):
    """A snapshot, model artifact or champion pointer is missing or not what its digest says."""
