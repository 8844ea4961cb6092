"""The YAML of the operator: read with the place of every node, and bound to typed settings with every fault."""
