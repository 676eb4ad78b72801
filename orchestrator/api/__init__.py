"""The REST API: thin. Validate, call the store, shape the reply; no rule of the loop is decided here."""
