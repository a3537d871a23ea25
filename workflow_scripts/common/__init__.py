"""What every stage shares: settings, errors, the data contract, records, seeds, provenance."""
