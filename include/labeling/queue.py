"""How much waits for people."""

from __future__ import annotations

from include.labeling.push import terms
from include.labeling.service import LabelingService
from include.labeling.settings import find_dataset
from include.project import Project

PAGE = 1000


def open_records(project: Project, service: LabelingService) -> int:
    """Records that still wait for answers; 0 when the dataset does not exist.

    Argilla keeps a record pending for ever when people discard it; one that was discarded by as many people as should
    have answered waits for nobody and is not counted.
    """
    dataset = find_dataset(project, service)
    if dataset is None or dataset["status"] == "draft":
        return 0
    pending = terms("record", "status", ["pending"])
    _, waiting = service.search_records(dataset["id"], filters=[pending], limit=1)
    given_up, offset, total = 0, 0, 1
    while offset < total:
        records, total = service.search_records(
            dataset["id"],
            filters=[pending, terms("response", "status", ["discarded"])],
            include=["responses"],
            sort=[{"scope": {"entity": "record", "property": "id"}, "order": "asc"}],
            offset=offset,
            limit=PAGE,
        )
        offset += PAGE
        for record in records:
            discards = sum(answer["status"] == "discarded" for answer in record["responses"])
            given_up += discards >= project.labeling.min_submitted
    return max(0, waiting - given_up)
