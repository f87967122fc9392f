"""`python -m runbook_lib.spec > docs/parameters.md`: the reference page."""

from runbook_lib.spec.model import Spec
from runbook_lib.spec.reference import as_markdown

print(as_markdown(Spec.reference()), end="")
