"""Report project files that cannot be used, as an import error people see; makes no DAG.

- **Runs when** the dag processor parses this file. **Reads** `include/projects/*.yaml`. **Writes** nothing.
- **Re-run** is safe because nothing is stored. The other DAG files skip broken project files, so that a broken YAML
  costs only its own project; this file says which ones, and why.
- **If it fails** correct the named field in the named file: the airflow dag processor reads it again within a minute.
"""

from include.errors import ProjectError
from include.project import broken_projects

if errors := broken_projects():
    raise ProjectError(
        "; ".join(error.what for error in errors), remedy="Correct the files; all other projects keep running."
    )
