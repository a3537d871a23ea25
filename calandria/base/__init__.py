"""What all else rests on: errors, files, records, the data contract, phases, settings, seeds, provenance."""
