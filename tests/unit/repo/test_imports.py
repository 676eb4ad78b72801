"""No module imports itself through others."""

from __future__ import annotations

from graphlib import TopologicalSorter

import grimp


def test_there_are_no_import_cycles() -> None:
    """Imports within functions count too; a cycle is an error that names its modules."""
    graph = grimp.build_graph("editthinker", "evaluation", "orchestrator", "services", "training")

    TopologicalSorter({module: graph.find_modules_directly_imported_by(module) for module in graph.modules}).prepare()
