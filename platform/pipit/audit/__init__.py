"""What each endpoint reads under which filters, and the proof that no tenant's answer depends on another's rows."""
