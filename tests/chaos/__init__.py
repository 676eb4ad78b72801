"""Real processes under random faults, and a checker that judges only what is written down."""
