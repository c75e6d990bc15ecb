"""The contract for incoming rows: the project's suite over the columns that ``source`` names."""

from __future__ import annotations

from include.ingestion.rows import contract_columns
from include.project import Project
from include.validation.contract import BatchVerdict, Kept, SuiteContract, Verdict

__all__ = ["BatchVerdict", "Contract", "Kept", "Verdict"]


class Contract(SuiteContract):
    """The expectations of one project; see ``SuiteContract`` for what they may say and when."""

    def __init__(self, project: Project) -> None:
        own = f"suite {project.validation.suite!r}: " if project.validation.suite else "validation."
        super().__init__(
            project.validation.expectations,
            contract_columns(project.source),
            name=project.name,
            where=f"project {project.name!r}: {own}expectations",
        )
