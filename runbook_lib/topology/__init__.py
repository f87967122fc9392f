"""What a deployment consists of, as values: nodes, rules, databases, cost, diagram."""
