"""The parts of the editor's benchmarks: traces, the servers compared, and tables."""
