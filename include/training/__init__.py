"""From final labels to a champion: policy, snapshot, trainer, gate, registry, scoring."""
