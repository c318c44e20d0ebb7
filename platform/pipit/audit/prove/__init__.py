"""The proof: what a tenant's token can read does not change with other tenants' rows, tried on generated data."""
