"""The clients that people use, against the embedded stack: `make test-clients` prints the table of docs/clients.md."""
