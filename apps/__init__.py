"""Programs that use keras-pep as a stranger would."""
