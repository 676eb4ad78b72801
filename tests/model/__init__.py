"""A model check of the protocol in `orchestrator/store/lua`: hypothesis drives network, clocks and people on a real Valkey."""
