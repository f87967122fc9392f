"""The chapters executed without a person: runner, batch, doctor, command line."""
