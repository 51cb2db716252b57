"""Acts on the cluster: namespaces, echo pods, services and nodes; and collects evidence."""
