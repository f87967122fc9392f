"""The chapters executed without a person: runner, batch, doctor, command line."""

import sys

# nbformat validates with jsonschema, which imports the grammars of international addresses where they are installed. They take a second to build,
# and no notebook's schema has such an address: whoever imports notebooks here does without them.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
