"""What receives: ledger, read model, HTTP API."""
