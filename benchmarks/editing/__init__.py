"""What the editor's benchmarks are made of: who asks when, the servers that are compared, and the tables."""
