"""The chapters without a person: runner, batch, doctor, command line."""
