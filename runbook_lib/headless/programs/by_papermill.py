"""papermill's own command line, with the library's errors in its last lines instead of a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from runbook_lib.errors import RunbookError
from runbook_lib.headless.runner import words_of
from runbook_lib.redaction import redactor


def papermill(words: Sequence[str]) -> int:
    """Execute a notebook as `papermill WORDS` does and return 0, or 1 when it failed; the reason was printed.

    The notebook knows that nobody can click, as in `runbook run`.
    """
    from papermill.__main__ import papermill as command
    from papermill.exceptions import PapermillExecutionError

    os.environ.setdefault("RUNBOOK_HEADLESS", "1")
    try:
        command.main(list(words), prog_name="runbook papermill")
    except PapermillExecutionError as problem:
        print(redactor.redact(words_of(problem)), file=sys.stderr)
        return 1
    except (OSError, ValueError) as problem:  # a file that is not there, or is no notebook
        first = (str(problem).splitlines() or [type(problem).__name__])[0]
        wrong = RunbookError(f"papermill cannot do this: {first}", None, "say ./runbook papermill NOTEBOOK OUT, with a notebook that is there")
        print(redactor.redact(str(wrong)), file=sys.stderr)
        return 1
    except SystemExit as end:  # its end, or its words about a wrong option
        return 1 if end.code else 0
    return 0
